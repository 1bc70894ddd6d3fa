package flow

import (
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
)

// CardSpec asks for a report of each task of a step. It is a step option; package cards makes them.
type CardSpec struct {
	// Name tells a step's cards apart and is part of the card's key in the store.
	Name string
	// Render writes the whole report. It runs after the task ended, and while it runs when the step asks for that with
	// [CardContent.Refresh] or tells its [Progress]; calls of one task do not overlap. If it fails, panics or takes longer
	// than 45 s, the task's outcome stays what it was, the log says so, and the card says what went wrong.
	Render func(w io.Writer, d *CardData) error
}

// StepOption marks CardSpec as an [Option].
func (CardSpec) StepOption() {}

// CardData is what a card can show of a task.
type CardData struct {
	Info Info
	// Outcome is "completed", "caught", "skipped" or "failed"; "waiting" for another attempt, or "interrupted". It is empty
	// while the task runs.
	Outcome string
	// Live says that the task was running when the card was written, at the time Written, and that its card may be written
	// again. Artifacts and Ended are not known then.
	Live    bool
	Written time.Time
	// Done and Total are what the step told with [Progress] last. Zero if it told nothing.
	Done, Total    int64
	Worker         string
	Started, Ended time.Time
	Params         []CardValue
	Artifacts      []CardValue
	// Attempts are all attempts so far, oldest first.
	Attempts []CardAttempt
	// Failure is what ended the task, or was caught. Nil when it completed.
	Failure *policies.Failure
	// Components are what the step appended to [Card].
	Components []Component
	// Log is the end of the attempt's log, one line each.
	Log []string
}

// CardValue is a parameter or an artifact on a card.
type CardValue struct {
	Name, Type, Preview, Digest string
	// Size is the encoded size in bytes.
	Size int64
	// Changed says that this task set it.
	Changed bool
}

// CardAttempt is an attempt on a card.
type CardAttempt struct {
	Number         int
	Outcome        string
	Started, Ended time.Time
	Failure        *policies.Failure
	// Delay is the wait before the next attempt and Reason why it was that long, or why there was none.
	Delay  time.Duration
	Reason string
}

// Component is a piece of a card. The HTML it returns goes into the page as it is: whoever
// writes a component must escape what it shows. Package cards has the ready-made ones.
type Component interface{ CardHTML() template.HTML }

func checkCards(step string, cards []CardSpec) []error {
	var errs []error
	seen := map[string]bool{}
	for _, c := range cards {
		folded := strings.ToLower(c.Name) // files may not tell case apart
		switch {
		case !legalCard.MatchString(c.Name):
			errs = append(errs, fmt.Errorf("step %q: card name %q is not allowed (use letters, digits, _ or -)", step, c.Name))
		case seen[folded]:
			errs = append(errs, fmt.Errorf("step %q has two cards named %q (rename one; case does not count)", step, c.Name))
		}
		if c.Render == nil {
			errs = append(errs, fmt.Errorf("step %q: card %q has no render function", step, c.Name))
		}
		seen[folded] = true
	}
	return errs
}
