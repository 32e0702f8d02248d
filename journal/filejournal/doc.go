// Package filejournal keeps a journal in the files of a folder.
package filejournal
