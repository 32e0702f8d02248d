// Package accel records what a program asks of an accelerator, so that the run
// can be executed again and compared bit for bit.
//
// # Devices
//
// A [Device] is memory and kernels: allocate, free, copy in and out, launch, seed.
// All memory is made of 32-bit words. The kernels that devices share are defined
// once, in [Catalogue], down to the order of every sum and the rounding of every
// product, so that two devices which claim a kernel's identity give the same
// bits. Package accel/cpu has them in Go; the module contrib/cuda in PTX.
//
// # Recording
//
// A [Recorder] wraps a device and is one. It does each command on the device
// beneath and then gives it to a [Harness], with digests of what went in and what
// came out. Commands are serialized: the order of the record is the order on the
// device. The first thing recorded is the [Environment], the pin.
//
// # Executing again
//
// A [Replayer] takes the records of a journal one at a time, does the commands on
// a device of its own and compares. It refuses a device whose environment is not
// the recorded one, unless the difference was accepted with a reason. The first
// [Difference] names the record, the kernel, the output and, if the output's
// contents were kept, its first differing element.
//
// A program that replays itself instead, its harness in replay mode, needs no
// Replayer: the Recorder gives the same payloads again and the harness compares
// them. [Compare] then says in words where two payloads part.
//
// # Digests
//
// Digests are SHA-256 over a whole buffer; the algorithm's number stands in each
// command. A buffer's digest is computed after a command wrote to it and
// remembered: memory that changes without a command is noticed in the first
// output computed from it, not before.
//
// # What this package does not do
//
// It records no streams and no events: one device, one queue. A command that the
// device refused is not recorded.
package accel
