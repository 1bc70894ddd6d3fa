package activities

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/isolate"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// Prepare makes the process ready for what its steps need beforehand, in the background: it ends what the processes of workers that
// were killed have left on this machine, and starts the process of the first isolated step.
func (a *Activities) Prepare() {
	go isolate.Sweep()
	for _, f := range a.flows {
		for _, def := range f.Steps() {
			if def.Isolated != nil && def.Command == nil && !a.options.InProcess {
				a.pool.Prepare()
				return
			}
		}
	}
}

// childTask is what a worker's copy has to do.
type childTask struct {
	In       StepInput         `json:"in"`
	Run      records.Run       `json:"run"` // without its plan
	Number   int               `json:"number"`
	Worker   string            `json:"worker"`
	Previous *policies.Failure `json:"previous,omitempty"`
	// Store is the location, with its options.
	Store    string        `json:"store"`
	Patience time.Duration `json:"patience_ns"`
	Cache    int64         `json:"cache"`
	Deadline time.Time     `json:"deadline,omitzero"`
	Memory   int64         `json:"memory,omitempty"`
	Dir      string        `json:"dir,omitempty"`
	Parent   string        `json:"parent,omitempty"` // the attempt's span
}

// toChild is a message to the copy. One of its fields is set.
type toChild struct {
	Task   *childTask   `json:"task,omitempty"`
	Cancel string       `json:"cancel,omitempty"`
	Reply  *guard.Reply `json:"reply,omitempty"`
	To     int64        `json:"to,omitempty"` // the number of the question
}

// fromChild is a message of the copy. One of its fields is set.
type fromChild struct {
	// Begun says that the author's function is called next.
	Begun    bool            `json:"begun,omitempty"`
	Log      json.RawMessage `json:"log,omitempty"`
	Secret   string          `json:"secret,omitempty"` // to be kept out of the log
	Progress *[2]int64       `json:"progress,omitempty"`
	Question *guard.Question `json:"question,omitempty"`
	Number   int64           `json:"number,omitempty"` // of the question
	// Cards is what the step wants its cards to show now, by their names.
	Cards  map[string][]template.HTML `json:"cards,omitempty"`
	Result *childResult               `json:"result,omitempty"`
}

// childResult is how the copy ended.
type childResult struct {
	Entries map[string]artifacts.Entry `json:"entries,omitempty"`
	Changed []string                   `json:"changed,omitempty"`
	Ahead   flow.Ahead                 `json:"ahead,omitempty"`
	Cards   map[string][]template.HTML `json:"cards,omitempty"`

	// Error is set if it failed. Panic says that the function panicked, Unavailable that the store was away.
	Error       *policies.Portable `json:"error,omitempty"`
	Panic       bool               `json:"panic,omitempty"`
	Unavailable bool               `json:"unavailable,omitempty"`
	// RetryIf is what the step's rule says of the error, or the text that it panicked with.
	RetryIf      *bool  `json:"retry_if,omitempty"`
	RetryIfPanic string `json:"retry_if_panic,omitempty"`

	// Alone says that nothing that the process started is left.
	Alone bool `json:"alone,omitempty"`
	// Peak is the most memory that the process itself has used, in bytes.
	Peak int64 `json:"peak,omitempty"`
}

// saved is what a copy has stored of a state.
type saved struct {
	entries map[string]artifacts.Entry
	changed []string
}

// limits are those of the attempt's process, those of the plan with the environment of the program, nil if it has none of its own.
func (t *attempt) limits(node flow.PlanNode) *flow.Isolated {
	if node.Isolated == nil || t.catch || t.in.Skip {
		return nil
	}
	limits := *node.Isolated
	limits.Env = nil
	if t.def.Isolated != nil {
		limits.Env = t.def.Isolated.Env // the plan has none
	}
	if e := t.spec.Escalate; e != nil && len(e.Rungs) > 0 {
		rung := e.Rungs[max(0, min(t.in.Rung, len(e.Rungs)-1))]
		limits.Memory = cmp.Or(rung.Memory, limits.Memory)
	}
	return &limits
}

// apart says that the author's function is called in a process of its own.
func (t *attempt) apart() bool {
	if t.isolated == nil || t.def.Command != nil || t.options.InProcess {
		return false
	}
	if _, _, ok := t.store.Location(); !ok {
		t.log.logger.Warn("the step runs in the worker's process, because no other can open its store", "store", t.store.String())
		return false
	}
	return true
}

// tryApart is the rest of try for a step in a process of its own, which loads and saves the state.
func (t *attempt) tryApart(ctx context.Context) (StepResult, *policies.Failure, error) {
	var parents []records.Ref
	if t.in.From != nil {
		parents = append(parents, *t.in.From)
	}
	if t.in.Join != nil {
		parents = append(parents, t.in.Join.parents()...)
	}
	if failure, err := t.guarded(ctx, nil, nil); err != nil {
		return StepResult{}, failure, err
	}
	result, err := t.save(context.WithoutCancel(ctx), nil, nil, parents, artifacts.Snapshot{})
	return result, nil, err
}

// patience is how long a cancelled function is waited for.
func (t *attempt) patience() time.Duration {
	if t.isolated != nil || t.def.Command != nil {
		return grace + killPatience // it is killed after the grace
	}
	return grace
}

// take keeps how the author's function ended.
func (t *attempt) take(o outcome) {
	t.ahead, t.saved, t.usage = o.ahead, o.saved, o.usage
	if o.def != nil {
		t.def = o.def
	}
	t.leftovers = append(t.leftovers, o.leftovers...)
}

// cleanUp removes directories that had to be there until the state was saved.
func (t *attempt) cleanUp() {
	for _, dir := range t.leftovers {
		_ = os.RemoveAll(dir)
	}
}

// goApart is goCall in a process of its own.
func (t *attempt) goApart(ctx context.Context) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if v := recover(); v != nil {
				o = outcome{failure: policies.PanicFailure(v, debug.Stack())}
				o.err = o.failure
			}
			done <- o
		}()
		t.at(ctx, PointBegin)
		o = t.runApart(ctx)
		t.at(ctx, PointRan)
	}()
	return done
}

// runApart starts a process and sees it through to its end. When the context ends, the process is told, and killed after a grace.
func (t *attempt) runApart(ctx context.Context) outcome {
	dir := t.isolated.Dir
	if dir == "" {
		temp, err := isolate.TempDir()
		if err != nil {
			return outcome{err: fmt.Errorf("make a directory for the step: %w", err)}
		}
		defer os.RemoveAll(temp)
		dir = temp
	} else if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		f := &policies.Failure{Class: policies.Permanent, Type: StartErrorType, Message: fmt.Sprintf("working directory %q is not there (make it, or leave Isolated.Dir out)", dir)}
		return outcome{err: f}
	}
	c, ready, err := t.startChild()
	if err != nil {
		return outcome{err: err}
	}
	defer c.Conn.Close()
	defer c.desk.Close()
	defer close(c.quit)
	c.Stdout.Each(func(line string) { t.printed("stdout", line) })
	c.Stderr.Each(func(line string) { t.printed("stderr", line) })
	go c.receive(ready)
	go func() { _ = c.Send(toChild{Task: t.childTask(ctx, dir)}) }() // a process that ends tells more than this error

	result := c.listen(ctx)
	if result != nil {
		if result.Alone {
			c.Alone()
		}
		c.Kill()
	}
	exit := c.wait(ctx)
	o := t.resultOf(result)
	if result == nil {
		o.err = c.ended(ctx, exit)
	}
	o.usage = usageOf(exit)
	if result != nil {
		o.usage.PeakMemory = max(o.usage.PeakMemory, result.Peak)
	}
	return o
}

func usageOf(e isolate.Exit) *records.Usage {
	return &records.Usage{PeakMemory: e.Usage.PeakMemory, CPU: e.Usage.CPU}
}

func (t *attempt) childTask(ctx context.Context, dir string) *childTask {
	location, o, _ := t.store.Location()
	task := &childTask{
		In: t.in, Run: t.run, Number: t.number, Worker: t.worker, Previous: t.info().Previous,
		Store: location, Patience: o.Patience, Cache: o.CacheBytes, Memory: t.isolated.Memory, Dir: dir, Parent: t.parent(),
	}
	task.Run.Plan = flow.Plan{}
	task.Deadline, _ = ctx.Deadline()
	return task
}

// resultOf turns a result into what the function would have ended with in this process.
func (t *attempt) resultOf(r *childResult) (o outcome) {
	if r == nil {
		return o
	}
	t.live.take(r.Cards)
	if r.Error == nil {
		o.saved, o.ahead = &saved{r.Entries, r.Changed}, r.Ahead
		return o
	}
	o.err = r.Error.Err()
	if r.Panic {
		o.failure = r.Error.Failure
	}
	if r.Unavailable {
		o.err = &awayError{o.err}
	}
	if r.RetryIf != nil || r.RetryIfPanic != "" {
		def := *t.def // the rule has been asked already: here the error has lost its type
		def.RetryIf = func(error) bool {
			if r.RetryIfPanic != "" {
				panic(r.RetryIfPanic)
			}
			return *r.RetryIf
		}
		o.def = &def
	}
	return o
}

// awayError says that the store was away when a process needed it.
type awayError struct{ error }

func (e *awayError) Unwrap() error        { return e.error }
func (e *awayError) Is(target error) bool { return target == artifacts.ErrUnavailable }

// rendered is a component of a card that another process has rendered.
type rendered template.HTML

// CardHTML implements flow.Component.
func (r rendered) CardHTML() template.HTML { return template.HTML(r) } //nolint:gosec // flow.Component's contract

// printed keeps a line that a process printed.
func (t *attempt) printed(source, line string) {
	h := t.log.outputs // bounded by what is kept of the output
	if t.batched {     // all items have one log
		h = t.logger().Handler()
	}
	r := slog.NewRecord(time.Now(), slog.LevelInfo, line, 0)
	r.AddAttrs(slog.String("source", source))
	_ = h.Handle(context.Background(), r)
}

// relog keeps a line that slog has written in the process.
func (t *attempt) relog(line []byte) {
	d := json.NewDecoder(bytes.NewReader(line))
	if _, err := d.Token(); err != nil {
		return
	}
	var r slog.Record
	for i := 0; d.More(); i++ {
		key, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			break
		}
		var text string
		isText := json.Unmarshal(value, &text) == nil
		switch {
		case i == 0 && isText: // the order is slog's
			r.Time, _ = time.Parse(time.RFC3339Nano, text)
		case i == 1 && isText:
			_ = r.Level.UnmarshalText([]byte(text))
		case i == 2 && isText:
			r.Message = text
		case isText:
			r.AddAttrs(slog.String(fmt.Sprint(key), text))
		default:
			r.AddAttrs(slog.Any(fmt.Sprint(key), rawJSON(value)))
		}
	}
	_ = t.logger().Handler().Handle(context.Background(), r)
}

// rawJSON is a value that was encoded elsewhere.
type rawJSON string

// MarshalJSON returns it as it is.
func (r rawJSON) MarshalJSON() ([]byte, error) { return []byte(r), nil }
