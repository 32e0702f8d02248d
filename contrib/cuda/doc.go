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
// # Failures
//
// What the driver refuses for lack of memory leaves the device as it was. All else
// that it reports is accel.ErrDevice with the driver's name for it; of most of these
// its documentation says that only a new process can use the GPU again.
//
// # What was tested
//
// This package has never run on a GPU. Where there is one, its tests run on it too;
// nobody has done that yet. Elsewhere they run, and agree with package accel/cpu bit
// for bit, on
//
//   - an interpreter of the PTX, and
//   - a stand-in for libcuda, written from the driver API's documentation and
//     compiled by the tests, below the code of this package: opened by the dynamic
//     linker, with the API's prototypes, refusals and error codes. Its kernels are
//     run by the interpreter.
//
// The PTX was assembled by ptxas 12.9 for sm_50 to sm_120 and by ptxas 13.5 for
// sm_75 to sm_120, without a warning. In the code for sm_80, sm_90 and sm_100 the
// only fused multiply-adds are those of ptxas's own routines for division and square
// root; a test looks again where ptxas and nvdisasm are on the PATH.
//
// Unknown is what only a GPU can tell: whether the driver does what its
// documentation and the stand-in say, how kernels behave whose threads truly run at
// the same time, and how fast any of it is.
//
// # What this package does not do
//
// One context, one stream: a launch returns when the kernel is done. Kernels are
// written to be right and plain, not to be the fastest.
package cuda
