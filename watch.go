package stepwell

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// watch finds out what a run is doing by looking at it again and again. Each look reads what can have changed: how
// the run ended, what Temporal says of it, and the steps from the first unfinished one to the one that runs.
type watch struct {
	run   *runs.Run
	store *artifacts.Store
	steps []watched
	next  int // the first step that is not finished
	// tail shows the logs that the store has. The worker in this process shows its own.
	tail   bool
	looked bool
}

// watched is a step as it was at the last look.
type watched struct {
	name    string
	spec    policies.Spec
	state   runs.State
	reused  string // the run that it was taken over from
	attempt int
	catch   bool
	began   bool
	started time.Time // of the first attempt
	ended   time.Time
	pending *runs.Pending
	failure *policies.Failure

	told   int // attempts whose end was told
	logged map[string]int
}

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
	eventTried     eventKind = "tried" // an attempt failed
	eventCompleted eventKind = "completed"
	eventCaught    eventKind = "caught"
	eventFailed    eventKind = "failed"
	eventCancelled eventKind = "cancelled"
	eventLog       eventKind = "log"
)

func newWatch(run *runs.Run, store *artifacts.Store, tail bool) *watch {
	w := &watch{run: run, store: store, tail: tail}
	for _, name := range run.Plan.Steps() {
		s := watched{name: name, state: runs.NotStarted, logged: map[string]int{}}
		if n, ok := run.Plan.Step(name); ok && n.Policy != nil {
			s.spec = *n.Policy
		}
		if owner := run.Owner(name); owner != run.Run.Run {
			s.reused = owner
		}
		w.steps = append(w.steps, s)
	}
	return w
}

// look reads the run again and returns what happened since the last look, in order.
func (w *watch) look(ctx context.Context) ([]event, error) {
	if err := w.run.Refresh(ctx); err != nil {
		return nil, err
	}
	var events []event
	for i := w.next; i < len(w.steps); i++ {
		s := &w.steps[i]
		found, err := w.run.Step(ctx, s.name)
		if err != nil {
			return events, err
		}
		t := found.Task
		if t == nil || t.State == runs.NotStarted {
			break
		}
		if events, err = w.update(ctx, events, s, t); err != nil {
			return events, err
		}
		if t.Record == nil {
			break
		}
		w.next = i + 1
	}
	w.looked = true
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	return events, nil
}

// update takes over a task's state and appends what that means.
func (w *watch) update(ctx context.Context, events []event, s *watched, t *runs.Task) ([]event, error) {
	s.state, s.pending = t.State, t.Pending
	if !s.ended.IsZero() {
		return events, nil // told
	}
	if t.Reused() {
		s.ended = t.Record.Ended
		return events, nil
	}
	var attempts []runs.Attempt
	if p := t.Pending; p == nil || p.Catch || p.Attempt > s.told+1 {
		var err error
		if attempts, err = t.Attempts(ctx); err != nil {
			return events, err
		}
	}
	if !s.began {
		s.began, s.started = true, began(t, attempts)
		events = append(events, event{at: s.started, kind: eventStarted, step: *s})
	}
	for i, a := range attempts {
		if i < s.told || a.Outcome == records.Completed {
			continue
		}
		s.told = i + 1
		s.attempt, s.failure = a.Attempt.Attempt, a.Failure
		events = append(events, event{at: a.Ended, kind: eventTried, step: *s, tried: a})
	}
	switch p := t.Pending; {
	case p != nil && p.Catch: // the number is of the catch's own attempts
		s.catch, s.failure = true, p.Failure
	case p != nil:
		s.attempt, s.failure = p.Attempt, p.Failure
	case t.Record != nil:
		s.attempt = t.Record.Attempt
	}
	if w.tail && (w.looked || t.Record == nil) { // not of steps that were over before anybody looked
		var err error
		if events, err = w.logs(ctx, events, s, t); err != nil {
			return events, err
		}
	}
	end := event{at: time.Now()}
	switch t.State {
	case runs.Completed:
		end.kind, end.at = eventCompleted, t.Record.Ended
	case runs.Caught:
		end.kind, end.at, s.failure = eventCaught, t.Record.Ended, t.Record.Failure
	case runs.Failed:
		end.kind = eventFailed
		if w.run.Failure != nil {
			s.failure = w.run.Failure
		}
		if !w.run.Ended.IsZero() {
			end.at = w.run.Ended
		}
	case runs.Cancelled:
		end.kind = eventCancelled
		if !w.run.Ended.IsZero() {
			end.at = w.run.Ended
		}
	default:
		return events, nil
	}
	s.ended = end.at
	end.step = *s
	return append(events, end), nil
}

// began is when a task's first attempt started. A task that waits for a worker begins with the look that saw it.
func began(t *runs.Task, attempts []runs.Attempt) time.Time {
	switch {
	case len(attempts) > 0 && !attempts[0].Started.IsZero():
		return attempts[0].Started
	case t.Record != nil:
		return t.Record.Started
	case t.Pending != nil && !t.Pending.Started.IsZero():
		return t.Pending.Started
	}
	return time.Now()
}

// logs appends the lines that the store has got since the last look, of attempts that can still get some.
func (w *watch) logs(ctx context.Context, events []event, s *watched, t *runs.Task) ([]event, error) {
	type source struct {
		attempt int
		catch   bool
	}
	last := max(s.attempt, 1)
	sources := []source{{last - 1, false}, {last, false}}
	if s.spec.Catch && (s.catch || t.State == runs.Caught || t.State == runs.Failed) {
		sources = append(sources, source{last, true})
	}
	for _, from := range sources {
		if from.attempt < 1 {
			continue
		}
		key := records.LogKey(w.run.Flow, t.Owner, s.name, t.Index, from.attempt, from.catch)
		b, err := w.store.GetDoc(ctx, key)
		if errors.Is(err, artifacts.ErrNotFound) {
			continue
		}
		if err != nil {
			return events, err
		}
		n := 0
		for line := range strings.Lines(string(b)) {
			if n++; n <= s.logged[key] {
				continue
			}
			e := entryOf(t.Name(), from.attempt, from.catch, records.ReadLogLine([]byte(strings.TrimSuffix(line, "\n"))))
			if !e.routine() {
				events = append(events, event{at: e.time, kind: eventLog, step: *s, log: e})
			}
		}
		s.logged[key] = max(s.logged[key], n)
	}
	return events, nil
}

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

// line tells the event on one line, "" for what need not be told.
func (e event) line(s style) string {
	if e.kind == eventLog {
		return e.log.line(s)
	}
	if e.single() {
		return ""
	}
	head := s.faint(clock(e.at)) + " " + s.bold(e.step.name) + " "
	took := ""
	if !e.step.started.IsZero() && !e.step.ended.IsZero() {
		took = " in " + briefly(e.step.ended.Sub(e.step.started))
	}
	switch e.kind {
	case eventStarted:
		return head + "started"
	case eventTried:
		return head + triedLine(s, e.step, e.tried)
	case eventCompleted:
		text := s.good("completed") + took
		if e.step.attempt > 1 {
			text += ", " + e.step.of(e.step.attempt)
		}
		return head + text
	case eventCaught:
		return head + s.warn("caught") + took + ": " + failureText(e.step.failure)
	case eventFailed:
		return head + s.bad("failed") + took + ": " + failureText(e.step.failure)
	case eventCancelled:
		return head + s.warn("cancelled") + took
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
	case records.Failed, records.Completed, records.Caught:
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

// maximumAttempts is the limit of a step's attempts in a plan.
func maximumAttempts(p flow.Plan, step string) int {
	if n, ok := p.Step(step); ok && n.Policy != nil {
		return n.Policy.MaximumAttempts
	}
	return 1
}
