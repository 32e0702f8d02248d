// Package cuda is an accel.Device on an NVIDIA GPU: the kernels of accel's catalogue
// in PTX, run through the driver API. libcuda is opened when a device is, so a build
// needs neither cgo nor a CUDA toolkit, and runs where there is no GPU: there Open
// fails with ErrUnavailable.
//
// # Bits
//
// Kernels give the bits of package accel/cpu, NaNs apart: products and sums are
// rounded one by one, in the order that the catalogue fixes, whatever the grid. The
// driver compiles the PTX for the GPU when a device is opened; the environment pins
// the GPU's model, the driver and a digest of the PTX.
//
// # What this package does not do
//
// One context, one stream: a launch returns when the kernel is done. Kernels are
// written to be right and plain, not to be the fastest.
package cuda
