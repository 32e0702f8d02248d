package sqlitejournal

import "fmt"

// Limit bounds the pages of the database as this handle's writer sees it: a disk
// that is full, and soon is not any more. 0 lifts it.
func (j *Journal) Limit(pages int) error {
	if pages == 0 {
		pages = 1<<32 - 2
	}
	<-j.turn
	defer j.give()
	_, err := j.anchor.ExecContext(background, fmt.Sprintf("PRAGMA max_page_count = %d", pages))
	return err
}

// Watch returns a channel that is closed when this process writes to the journal.
func (j *Journal) Watch() <-chan struct{} { return j.place.watch(j.id) }
