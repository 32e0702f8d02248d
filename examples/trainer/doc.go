// Command trainer trains a small network on two spirals, records the run, and
// replays it bit for bit.
//
// Everything that is not computed comes through the harness: the seeds of noise,
// initial weights, shuffling and dropout, the batch size, which changes while it
// runs, and the clock. Every command to the device is recorded with digests of what
// went in and came out. So the record is all it takes to train the same network
// again:
//
//	go build -o trainer ./examples/trainer       # at the top of the repository
//	./trainer --mode record                      # prints a digest of the weights
//	./trainer --mode replay                      # prints the same digest, or the first difference
//	./trainer --mode replay --plant bit --svg loss.svg
//	understudy capture ls --journal file:trainer-data --id trainer
//
// A replay is of the last run under --id and needs its --epochs and --points: other
// ones are a difference too. Two runs are compared as recorded if each has an id:
//
//	./trainer --mode record --id a && ./trainer --mode record --id b
//	understudy diff a b --journal file:trainer-data
//
// A run that was killed replays as far as it was recorded. A plant is a difference
// made on purpose, in the epoch --plant-epoch: another dropout seed, a larger batch,
// or one flipped bit in the memory that holds the last layer's bias. The replay
// names the record where it shows and, if a picture is asked for, goes on without
// the record to draw where the loss goes.
//
// The exit code is 0 if the runs agree, 1 if something failed, 2 for wrong usage
// and 5 if there is a difference.
package main
