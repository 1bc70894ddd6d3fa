package policies

import (
	"encoding/json"
	"time"
)

// Timeout says how long a task may take. It is a step's option. Zero fields mean no limit, except
// for Heartbeat; a Timeout that sets nothing at all is a mistake that the flow's Check reports.
//
// Metaflow's @timeout(minutes=10) is Timeout{Attempt: 10 * time.Minute}: per attempt.
type Timeout struct {
	// Attempt is the longest that one attempt may take. When it passes, the step's context is
	// cancelled and the attempt has failed with class Timeout, a code failure: it may be tried
	// again, and a catch gets it. Zero means no limit.
	Attempt time.Duration
	// Total is the longest that the task may take from when its first attempt was scheduled, with
	// all attempts and the waits between them, also those for a service that is away. The wait for
	// the first attempt's turn does not count, nor does one in the queue of a [Limit]. A next
	// attempt that would start after it is not waited for. Such a failure is final. Zero means no
	// limit.
	Total time.Duration
	// Queue is the longest that an attempt may wait for a worker. Such a failure is final. Leave
	// it at zero, no limit, unless no worker for so long means that something is broken.
	Queue time.Duration
	// Heartbeat is how soon a lost worker is noticed: the attempt counts as lost when nothing was
	// heard of it for so long. The step need not do anything for it. Zero means the worker's
	// default, 30 seconds if it has none.
	Heartbeat time.Duration
}

// StepOption makes Timeout an option of a step.
func (Timeout) StepOption() {}

type timeoutJSON struct {
	Attempt   duration `json:"attempt,omitzero"`
	Total     duration `json:"total,omitzero"`
	Queue     duration `json:"queue,omitzero"`
	Heartbeat duration `json:"heartbeat,omitzero"`
}

// MarshalJSON writes the durations as text, such as "1m30s", and leaves zero ones out.
func (t Timeout) MarshalJSON() ([]byte, error) {
	return json.Marshal(timeoutJSON{duration(t.Attempt), duration(t.Total), duration(t.Queue), duration(t.Heartbeat)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *Timeout) UnmarshalJSON(b []byte) error {
	var in timeoutJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*t = Timeout{time.Duration(in.Attempt), time.Duration(in.Total), time.Duration(in.Queue), time.Duration(in.Heartbeat)}
	return nil
}
