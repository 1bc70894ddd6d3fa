package stepwell

import (
	"fmt"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// event is something that happened in a run, or a line that a step logged.
type event struct {
	at   time.Time
	kind eventKind
	step watched
	// tried is the attempt that failed, of a retrying event.
	tried runs.Attempt
	log   logEntry
}

type eventKind string

const (
	eventStarted   eventKind = "started"
	eventTried     eventKind = "tried"   // an attempt failed
	eventCounted   eventKind = "counted" // items of a foreach ended
	eventItem      eventKind = "item"    // an item of a foreach failed
	eventCompleted eventKind = "completed"
	eventCaught    eventKind = "caught"
	eventFailed    eventKind = "failed"
	eventCancelled eventKind = "cancelled"
	eventLog       eventKind = "log"
)

// of is "attempt 2 of 4". Lost attempts do not count against the limit, so the number can pass it.
func (s watched) of(attempt int) string {
	if attempt > s.spec.MaximumAttempts {
		return fmt.Sprintf("attempt %d", attempt)
	}
	return fmt.Sprintf("attempt %d of %d", attempt, s.spec.MaximumAttempts)
}

// single says that a failed attempt says all there is: the step has no other.
func (e event) single() bool {
	return e.kind == eventTried && e.step.spec.MaximumAttempts == 1 && e.tried.Outcome == records.Failed
}

// above says that the event is told above the block of a screen, which shows the others.
func (e event) above() bool {
	return e.kind == eventTried || e.kind == eventItem || e.kind == eventLog
}

// line tells the event on one line, "" for what need not be told.
func (e event) line(s style) string {
	if e.kind == eventLog {
		return e.log.line(s)
	}
	if e.single() {
		return ""
	}
	head := s.faint(clock(e.at)) + " " + s.bold(clean(e.step.task())) + " "
	took := ""
	if !e.step.started.IsZero() && !e.step.ended.IsZero() {
		took = " in " + briefly(e.step.ended.Sub(e.step.started))
	}
	items := ""
	if e.step.fan != nil {
		items = ": " + e.step.fan.text(s)
	}
	switch e.kind {
	case eventStarted:
		if f := e.step.fan; f != nil {
			return head + "started: " + many(f.items, "item")
		}
		return head + "started"
	case eventTried:
		return head + triedLine(s, e.step, e.tried)
	case eventCounted:
		return s.faint(clock(e.at)) + " " + s.bold(clean(e.step.task())) + items
	case eventItem:
		return s.faint(clock(e.at)) + " " + s.bold(clean(e.log.task)) + " " + clean(e.log.message)
	case eventCompleted:
		text := s.good("completed") + took + items
		if e.step.attempt > 1 {
			text += ", " + e.step.of(e.step.attempt)
		}
		return head + text
	case eventCaught:
		return head + s.warn("caught") + took + ": " + failureText(e.step.failure)
	case eventFailed:
		if e.step.fan != nil {
			return head + s.bad("failed") + took + items
		}
		return head + s.bad("failed") + took + ": " + failureText(e.step.failure)
	case eventCancelled:
		return head + s.warn("cancelled") + took + items
	case eventLog:
	}
	return ""
}

func triedLine(s style, step watched, a runs.Attempt) string {
	text := step.of(a.Attempt.Attempt) + " "
	switch a.Outcome {
	case records.Lost:
		text += s.warn("was lost")
	case records.Cancelled:
		text += s.warn("was cancelled")
	case records.Deferred:
		text += s.warn("has to wait")
	case records.Failed, records.Completed, records.Caught, records.Skipped:
		text += s.warn("failed")
	}
	if a.Failure != nil {
		text += ": " + failureText(a.Failure)
	}
	switch {
	case a.Delay > time.Millisecond:
		text += fmt.Sprintf("; next attempt in %s (%s)", briefly(a.Delay), clean(a.Reason))
	case a.Reason != "" && (a.Failure == nil || a.Reason != a.Failure.Message):
		text += "; " + clean(a.Reason)
	}
	return text
}

// failureText is a failure's message with its class.
func failureText(f *policies.Failure) string {
	if f == nil {
		return "for a reason that was not recorded"
	}
	return fmt.Sprintf("%s (class %s)", clean(f.Message), clean(string(f.Class)))
}
