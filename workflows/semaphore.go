package workflows

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/policies"
)

// RegisterLimit registers the workflow that keeps a limit, for a worker of [activities.LimitQueue].
func RegisterLimit(r Registry) {
	r.RegisterWorkflowWithOptions(Limit, workflow.RegisterOptions{Name: activities.LimitType})
}

// Limit keeps the limit of one key: it hands out leases in the order of the requests. It ends when nobody needs it.
//
// Every worker of a cluster may have to replay it, so it changes even more rarely than the interpreter.
func Limit(ctx workflow.Context, in LimitInput) error {
	in.Check, in.Idle = cmp.Or(in.Check, time.Minute), cmp.Or(in.Idle, 5*time.Minute)
	s := &semaphore{in: in.LimitInput, forgotten: in.Forgotten}
	for _, i := range in.Untold {
		s.untold = append(s.untold, in.Held[i])
	}
	messages := workflow.GetSignalChannelWithOptions(ctx, activities.LimitSignal, workflow.SignalChannelOptions{
		Description: "a run asks for places or gives some back; for runs only",
	})
	tick := workflow.NewTimer(ctx, in.Check)
	quiet := workflow.Now(ctx)
	var check workflow.Future // nil, or the check that is under way
	for {
		for m := (activities.LimitMessage{}); messages.ReceiveAsync(&m); m = (activities.LimitMessage{}) {
			quiet = workflow.Now(ctx)
			s.receive(m)
		}
		if s.tell(ctx) {
			continue // more may have come meanwhile
		}
		workflow.SetCurrentDetails(ctx, s.String())
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case check == nil && workflow.GetInfo(ctx).GetContinueAsNewSuggested():
			for m := (activities.LimitMessage{}); messages.ReceiveAsync(&m); m = (activities.LimitMessage{}) { // while nobody could be told
				s.receive(m)
			}
			return workflow.NewContinueAsNewError(ctx, activities.LimitType, s.handOn())
		case s.empty() && workflow.Now(ctx).Sub(quiet) >= in.Idle:
			return nil // the server refuses this, and calls again, when a message has come
		}

		sel := workflow.NewSelector(ctx)
		sel.AddReceive(messages, func(c workflow.ReceiveChannel, _ bool) {
			var m activities.LimitMessage
			c.Receive(ctx, &m)
			quiet = workflow.Now(ctx)
			s.receive(m)
		})
		sel.AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) {})
		sel.AddFuture(tick, func(workflow.Future) {
			tick = workflow.NewTimer(ctx, in.Check)
			if !s.empty() {
				quiet = workflow.Now(ctx)
				if check == nil {
					check = s.check(ctx)
				}
			}
		})
		if check != nil {
			sel.AddFuture(check, func(f workflow.Future) {
				var fates []activities.LimitFate
				if err := f.Get(ctx, &fates); err != nil {
					workflow.GetLogger(ctx).Warn("holders of a limit were not checked", "key", in.Key, "error", err)
				}
				check = nil
				s.bury(fates)
			})
		}
		sel.Select(ctx)
	}
}

// LimitInput is what the workflow of a limit starts with, and what one that continues as new hands on besides. A worker of an earlier
// version does not know the latter: it leaves those untold, and those that are forgotten ask again after an hour.
type LimitInput struct {
	activities.LimitInput
	// Untold are the places in Held of leases that were granted, and the holder does not know yet.
	Untold []int `json:"untold,omitempty"`
	// Forgotten are holders of which not all that wait are in Waiting. They are told to ask again when none of theirs is left in it.
	Forgotten []activities.Holder `json:"forgotten,omitempty"`
}

// maxLimitInput is how much the input may have when a limit continues as new, in bytes of JSON, if some that wait can be left out for
// it. The server ends a workflow at 2 MiB, and nobody would know who holds places: policies.Limit has a largest Max.
const maxLimitInput = 1 << 20

// handOn is the state for the workflow that this one continues as. When the queue is too long, it forgets of every holder the last
// ones, so that all holders go on.
func (s *semaphore) handOn() LimitInput {
	all := LimitInput{LimitInput: s.in, Forgotten: s.forgotten}
	untold := make(map[activities.Lease]bool, len(s.untold))
	for _, l := range s.untold {
		untold[l] = true
	}
	for i, l := range s.in.Held { // some may be given back, or asked for again and again
		if untold[l] {
			all.Untold = append(all.Untold, i)
		}
	}
	out := all
	for each := maxAsked / 2; !out.fits() && each > 0; each /= 2 {
		out = all.cut(each, len(all.Waiting))
	}
	for n := len(all.Waiting); !out.fits() && n > 0; { // that many holders: the last ones ask again after an hour
		n = n * 3 / 4
		out = all.cut(1, n)
	}
	return out
}

func (in *LimitInput) fits() bool {
	b, err := json.Marshal(in)
	return err != nil || len(b) <= maxLimitInput
}

// cut is the input with up to each that wait of a holder, of the first so many.
func (in LimitInput) cut(each, first int) LimitInput {
	waiting := in.Waiting[:first]
	count := map[activities.Holder]int{}
	forgotten := slices.Clone(in.Forgotten)
	in.Waiting, in.Forgotten = nil, nil
	for _, l := range waiting {
		if count[l.Holder]++; count[l.Holder] <= each {
			in.Waiting = append(in.Waiting, l)
		} else {
			forgotten = append(forgotten, l.Holder)
		}
	}
	for _, h := range forgotten {
		if count[h] > 0 { // one of its own comes first, and once is enough
			count[h] = 0
			in.Forgotten = append(in.Forgotten, h)
		}
	}
	return in
}

// holdersOf is whose the leases are.
func holdersOf(leases []activities.Lease) map[activities.Holder]bool {
	all := make(map[activities.Holder]bool, len(leases))
	for _, l := range leases {
		all[l.Holder] = true
	}
	return all
}

// semaphore is the state of a limit. What it grants depends on the order of messages alone, not on how many of them came
// together: a workflow task that is done again, with more of them, grants at least the same.
type semaphore struct {
	in     activities.LimitInput
	untold []activities.Lease // granted, and the holder does not know yet
	// forgotten is that of [LimitInput].
	forgotten []activities.Holder
}

func (s *semaphore) empty() bool {
	return len(s.in.Held) == 0 && len(s.in.Waiting) == 0 && len(s.forgotten) == 0
}

func (s *semaphore) receive(m activities.LimitMessage) {
	for _, task := range m.Free {
		l := activities.Lease{Holder: m.Holder, First: m.First, Task: task}
		s.in.Held = slices.DeleteFunc(s.in.Held, l.Same)
		s.in.Waiting = slices.DeleteFunc(s.in.Waiting, l.Same)
	}
	if len(m.Ask) > 0 {
		s.in.Max = m.Max
	}
	for _, task := range m.Ask {
		l := activities.Lease{Holder: m.Holder, First: m.First, Task: task}
		if i := slices.IndexFunc(s.in.Held, l.Same); i >= 0 {
			// It asks again because it does not know: it was reset, or got tired of waiting.
			s.in.Held[i] = l
			s.untold = append(s.untold, l)
		} else if i := slices.IndexFunc(s.in.Waiting, l.Same); i >= 0 {
			s.in.Waiting[i] = l
		} else {
			s.in.Waiting = append(s.in.Waiting, l)
		}
	}
	s.grant()
}

// bury takes the leases of holders that ended, and gives those of a holder that was reset to what it is now.
func (s *semaphore) bury(fates []activities.LimitFate) {
	for _, f := range fates {
		if f.Now == "" {
			dead := func(l activities.Lease) bool { return l.Holder == f.Holder }
			s.in.Held = slices.DeleteFunc(s.in.Held, dead)
			s.in.Waiting = slices.DeleteFunc(s.in.Waiting, dead)
			s.forgotten = slices.DeleteFunc(s.forgotten, func(h activities.Holder) bool { return h == f.Holder })
			continue
		}
		for i := range s.in.Held {
			if l := &s.in.Held[i]; l.Holder == f.Holder {
				// What was granted may be from after the reset; the run gives back what it does not want.
				l.Run = f.Now
				s.untold = append(s.untold, *l)
			}
		}
		for i := range s.in.Waiting {
			if l := &s.in.Waiting[i]; l.Holder == f.Holder {
				l.Run = f.Now
			}
		}
		for i := range s.forgotten {
			if h := &s.forgotten[i]; *h == f.Holder {
				h.Run = f.Now
			}
		}
	}
	s.grant()
}

func (s *semaphore) grant() {
	for len(s.in.Held) < s.in.Max && len(s.in.Waiting) > 0 {
		l := s.in.Waiting[0]
		s.in.Waiting = slices.Delete(s.in.Waiting, 0, 1)
		s.in.Held = append(s.in.Held, l)
		s.untold = append(s.untold, l)
	}
}

// tell lets holders know what they were granted, one signal to each, and those that are to ask again that nothing was. It reports
// whether there was something to tell.
func (s *semaphore) tell(ctx workflow.Context) bool {
	var grants []activities.LimitGrant
	at := map[activities.Holder]int{}
	for _, l := range s.untold {
		if !slices.Contains(s.in.Held, l) {
			continue // given back already
		}
		i, ok := at[l.Holder]
		if !ok {
			i = len(grants)
			at[l.Holder] = i
			grants = append(grants, activities.LimitGrant{Holder: l.Holder, Grant: activities.Grant{Key: s.in.Key}})
		}
		grants[i].Tasks = append(grants[i].Tasks, l.Task)
	}
	var again []activities.Holder
	if len(s.forgotten) > 0 {
		waiting := holdersOf(s.in.Waiting)
		for _, h := range s.forgotten {
			if !waiting[h] {
				again = append(again, h)
				grants = append(grants, activities.LimitGrant{Holder: h, Grant: activities.Grant{Key: s.in.Key}})
			}
		}
	}
	if len(grants) == 0 {
		s.untold = nil
		return false
	}
	// A local activity: it saves two trips through the server's queues for each task.
	ctx = workflow.WithLocalActivityOptions(ctx, localCall(5))
	var fates []activities.LimitFate
	if err := workflow.ExecuteLocalActivity(ctx, activities.GrantLimitType, grants).Get(ctx, &fates); err != nil {
		workflow.GetLogger(ctx).Warn("holders of a limit were not told", "key", s.in.Key, "error", err)
		return false // at the next tick, or message
	}
	s.untold = nil
	s.bury(fates)
	s.forgotten = slices.DeleteFunc(s.forgotten, func(h activities.Holder) bool { return slices.Contains(again, h) })
	return true
}

// localCall are the options of a local activity that calls the server. Attempts 0 means without end.
func localCall(attempts int32) workflow.LocalActivityOptions {
	return workflow.LocalActivityOptions{
		StartToCloseTimeout:    10 * time.Second,
		ScheduleToCloseTimeout: 365 * 24 * time.Hour,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 10 * time.Second, MaximumAttempts: attempts,
		},
	}
}

// maxChecked bounds the input of a check. Those who come later in the queue are looked at when they have come nearer.
const maxChecked = 4000

// check starts to look whether the holders and those who wait are alive.
func (s *semaphore) check(ctx workflow.Context) workflow.Future {
	var holders []activities.Holder
	seen := map[activities.Holder]bool{}
	for _, l := range slices.Concat(s.in.Held, s.in.Waiting) {
		if !seen[l.Holder] && len(holders) < maxChecked {
			seen[l.Holder] = true
			holders = append(holders, l.Holder)
		}
	}
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ScheduleToCloseTimeout: 10 * time.Minute,
		StartToCloseTimeout:    5 * time.Minute,
		HeartbeatTimeout:       30 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second,
		},
		Summary: fmt.Sprintf("%d alive?", len(holders)),
	}), activities.CheckLimitType, holders)
}

// maxHolders bounds the table that the Web UI shows.
const maxHolders = 20

// String is what the Web UI shows under "current details".
func (s *semaphore) String() string {
	rows := []string{fmt.Sprintf("%s: %d running, %d waiting\n\n", policies.Limit{Key: s.in.Key, Max: s.in.Max}, len(s.in.Held), len(s.in.Waiting))}
	if len(s.in.Held) > 0 {
		rows = append(rows, "| run | task |\n|---|---|\n")
	}
	for _, l := range s.in.Held[:min(len(s.in.Held), maxHolders)] {
		rows = append(rows, fmt.Sprintf("| %s | %s |\n", oneLine(l.Workflow, 200), oneLine(l.Task, 200)))
	}
	return strings.Join(rows, "")
}
