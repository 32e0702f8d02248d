package machine

import (
	"encoding/json"
	"fmt"

	"understudy.dev/journal"
)

// A Tenure is the data of an EpochStart record, as JSON: who became primary, how,
// and in which environment.
type Tenure struct {
	Epoch       journal.Epoch       `json:"-"` // the record's own
	Node        string              `json:"node"`
	Machine     string              `json:"machine"`
	Version     uint32              `json:"version"` // of the machine's logic
	Seed        [2]uint64           `json:"seed"`    // of Context.Rand
	Environment journal.Environment `json:"environment"`
	How         string              `json:"how"` // "bootstrap", "start" or "promote"
	Operation   string              `json:"operation,omitempty"`
	Actor       string              `json:"actor,omitempty"`
	Reason      string              `json:"reason,omitempty"`
	Accepted    []string            `json:"accepted,omitempty"` // checks that the operator accepted
	Client      string              `json:"client,omitempty"`   // where clients reach it
	Admin       string              `json:"admin,omitempty"`    // where operators reach it
}

// ParseTenure decodes the data of an EpochStart record.
func ParseTenure(data []byte) (Tenure, error) {
	var t Tenure
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("parse epoch start: %w", err)
	}
	return t, nil
}
