package policies

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Escalate gives a step more when what it was given was too little: an attempt that ran out of memory, or took longer than
// Timeout.Attempt, is followed by one on the next rung. It is a step's option. The zero value, without rungs, is a mistake that the flow's Check reports.
//
// A climb uses no attempt of [Retry].MaximumAttempts. A lost worker is no reason to climb. The rung that a step finished on is
// remembered: the next run of the flow starts there.
type Escalate struct {
	// Rungs are what attempts are given, from the first to the last.
	Rungs []Rung `json:"rungs"`
}

// StepOption makes Escalate an option of a step.
func (Escalate) StepOption() {}

// Rung is one step of the ladder. A zero field leaves what the step's other options say.
type Rung struct {
	// Memory is the limit of an isolated step in bytes, see flow.Isolated.
	Memory int64 `json:"memory,omitempty"`
	// Timeout is Timeout.Attempt.
	Timeout time.Duration `json:"-"`
	// Queue is the Temporal task queue of workers with more memory, for example. Zero means the run's.
	Queue string `json:"queue,omitempty"`
}

type plainRung Rung

type rungJSON struct {
	plainRung
	Timeout duration `json:"timeout,omitzero"`
}

// MarshalJSON writes the timeout as text, such as "1m30s".
func (r Rung) MarshalJSON() ([]byte, error) {
	return json.Marshal(rungJSON{plainRung(r), duration(r.Timeout)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Rung) UnmarshalJSON(b []byte) error {
	var in rungJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*r = Rung(in.plainRung)
	r.Timeout = time.Duration(in.Timeout)
	return nil
}

func (e Escalate) validate(bad func(string, ...any)) {
	if len(e.Rungs) == 0 {
		bad("escalate has no rungs (give it some, or leave it out)")
	}
	for i, r := range e.Rungs {
		if r == (Rung{}) && i > 0 {
			bad("escalate: rung %d sets nothing (set Memory, Timeout or Queue)", i+1)
		}
		if r.Memory < 0 {
			bad("escalate: Memory of rung %d is %d (use bytes, 1<<30 for a gibibyte)", i+1, r.Memory)
		} else if r.Memory > 0 && r.Memory < 1<<20 {
			bad("escalate: Memory of rung %d is %d bytes (use 1<<30 for a gibibyte)", i+1, r.Memory)
		}
		checkDuration(bad, fmt.Sprintf("escalate: Timeout of rung %d", i+1), r.Timeout)
	}
}

// At are the policies of an attempt on a rung, counted from 0.
func (s Spec) At(rung int) Spec {
	if s.Escalate == nil || len(s.Escalate.Rungs) == 0 {
		return s
	}
	r := s.Escalate.Rungs[max(0, min(rung, len(s.Escalate.Rungs)-1))]
	if r.Timeout > 0 {
		s.Timeout.Attempt = r.Timeout
	}
	return s
}

// attemptTimeout is the type of the failure of an attempt that took longer than Timeout.Attempt.
const attemptTimeout = "TimeoutError"

// Climb says whether a failure on a rung is followed by an attempt on the next one. The timeout of a call within the attempt, such as a
// request's, is no reason: more memory or time for the step does not help the service.
func (s Spec) Climb(f *Failure, rung int) bool {
	return s.Escalate != nil && rung+1 < len(s.Escalate.Rungs) && (f.Class == OutOfMemory || f.Class == TimedOut && f.Type == attemptTimeout)
}

// String is like "memory 4 GiB, 10m each, queue big".
func (r Rung) String() string {
	var parts []string
	if r.Memory > 0 {
		parts = append(parts, "memory "+Bytes(r.Memory).String())
	}
	if r.Timeout > 0 {
		parts = append(parts, short(r.Timeout)+" each")
	}
	if r.Queue != "" {
		parts = append(parts, "queue "+r.Queue)
	}
	if len(parts) == 0 {
		return "as the step says"
	}
	return strings.Join(parts, ", ")
}

// Bytes is a size in bytes that is written for people, such as "1.5 GiB".
type Bytes int64

// String has three digits and a unit.
func (n Bytes) String() string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.3g GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.3g MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}
