// Package spoil makes the use of memory that was given back visible in tests.
package spoil
