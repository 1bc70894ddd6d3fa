package flowtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// event is a moment that comes again in each run of a flow.
type event struct {
	step    string
	index   string // its key
	attempt int
	catch   bool
	batch   bool
	point   activities.Point
	nth     int // of the attempt's checkpoints
}

// pointCheckpoint is a place within the author's function: it kept a checkpoint.
const pointCheckpoint activities.Point = "after_checkpoint"

func eventOf(m activities.Moment) event {
	return event{step: m.Step, index: m.Index.Key(), attempt: m.Attempt, catch: m.Catch, batch: m.Batch, point: m.Point}
}

func (e event) task() string {
	x, _ := flow.ParseIndex(e.index) // it was made from one
	return flow.TaskName(e.step, x)
}

// String is the event's part of the name of a subtest, like "fit[3]/after_run".
func (e event) String() string {
	name := e.task() + "/"
	if e.batch {
		name += "batch/"
	}
	if e.catch {
		name += "catch/"
	}
	if e.attempt > 1 && !e.catch {
		name += fmt.Sprintf("attempt_%d/", e.attempt)
	}
	name += string(e.point)
	if e.nth > 0 {
		name += fmt.Sprintf("_%d", e.nth)
	}
	return name
}

// points are those of an attempt, in order.
var points = []activities.Point{activities.PointBegin, pointCheckpoint, activities.PointRan, activities.PointStored, activities.PointRecord, activities.PointNoted}

// compare orders events: by steps as they are in the plan, then by tasks, attempts and points.
func (e event) compare(o event, steps []string) int {
	x, _ := flow.ParseIndex(e.index)
	y, _ := flow.ParseIndex(o.index)
	two := map[bool]int{true: 1}
	return cmp.Or(
		cmp.Compare(slices.Index(steps, e.step), slices.Index(steps, o.step)),
		slices.Compare(x, y),
		cmp.Compare(two[e.batch], two[o.batch]),
		cmp.Compare(two[e.catch], two[o.catch]),
		cmp.Compare(e.attempt, o.attempt),
		cmp.Compare(slices.Index(points, e.point), slices.Index(points, o.point)),
		cmp.Compare(e.nth, o.nth),
	)
}

// finished is how a task ended, and in which run.
type finished struct {
	run     string
	outcome records.Outcome
}

// watch is a store that looks at what is written, and notes what must not be. It is told of the moments of the attempts, too.
type watch struct {
	driver.Driver
	plan flow.Plan

	mu     sync.Mutex
	events map[event]bool
	keys   map[string]string   // the idempotency key of each task
	tasks  map[string]finished // that have a record
	items  map[string]finished // of batches that have one
	failed map[string]bool     // items whose failure was tolerated
	broken []string
}

func newWatch(f *flow.Flow, d driver.Driver) *watch {
	return &watch{
		Driver: d, plan: f.Plan(), events: map[event]bool{}, keys: map[string]string{},
		tasks: map[string]finished{}, items: map[string]finished{}, failed: map[string]bool{},
	}
}

func (w *watch) fault(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// moment is told of a moment of an attempt.
func (w *watch) moment(ctx context.Context, m activities.Moment, e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events[e] = true
	if m.Point != activities.PointBegin {
		return
	}
	task := e.task()
	if done, ok := w.tasks[task]; ok {
		w.fault("task %s ran again (attempt %d of run %s) although run %s has its record", task, m.Attempt, m.Run, done.run)
	}
	for _, item := range w.around(m.Step, m.Index) {
		if done, ok := w.items[item]; ok && done.outcome != records.Failed {
			w.fault("task %s ran again (run %s) although item %s is finished in a batch of run %s", task, m.Run, item, done.run)
		}
	}
	key := flow.IdempotencyKey(ctx)
	if before, ok := w.keys[task]; ok && before != key {
		w.fault("task %s has another idempotency key in attempt %d of run %s (%s) than before (%s)", task, m.Attempt, m.Run, key, before)
	}
	w.keys[task] = key
}

// around names the items that a task is part of, like "each[3]".
func (w *watch) around(step string, x flow.Index) []string {
	var items []string
	for depth, n := range w.plan.Around(step) {
		if n.Kind == flow.KindForeach && depth < len(x) {
			items = append(items, flow.TaskName(n.Name, x[:depth+1]))
		}
	}
	return items
}

// maybe says that a task, or an item of a batch, may be begun or not: it is part of an item that failed, and what of it was under way then, and what
// had not begun, is another matter each time.
func (w *watch) maybe(step string, x flow.Index, item bool) bool {
	if n, ok := w.plan.Shape(step); ok && item { // what is around the foreach is around its join
		step, x = n.Join.Name, x[:len(x)-1]
	}
	return slices.ContainsFunc(w.around(step, x), func(item string) bool { return w.failed[item] })
}

// joins is told of the input of a foreach's join.
func (w *watch) joins(in activities.StepInput) {
	if in.Join == nil || in.Join.Branch {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended(in.Join.Shape, in.Index, in.Join.Parts)
}

// ended notes which items failed.
func (w *watch) ended(foreach string, x flow.Index, items []records.Item) {
	for _, i := range items {
		if i.Outcome == records.Failed {
			w.failed[flow.TaskName(foreach, records.Within(x, i.Index))] = true
		}
	}
}

// Put implements driver.Driver.
func (w *watch) Put(ctx context.Context, key string, body driver.Body, o driver.PutOptions) error {
	kind := ""
	if folders := strings.Split(key, "/"); len(folders) > 4 && folders[0] == "flows" {
		kind = folders[3]
	}
	if kind != "tasks" && kind != "batches" && kind != "fans" {
		return w.Driver.Put(ctx, key, body, o)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, before := w.Driver.Stat(ctx, key)
	if err := w.Driver.Put(ctx, key, body, o); err != nil {
		return err
	}
	if before == nil && kind != "fans" {
		w.fault("the record %s was written over", key)
	}
	content, _ := body.Data()
	if kind == "tasks" {
		w.task(content)
	} else {
		w.lines(content, kind == "batches")
	}
	return nil
}

func (w *watch) task(content []byte) {
	var rec records.Task
	if err := json.Unmarshal(content, &rec); err != nil {
		w.fault("a record cannot be read: %v", err)
		return
	}
	task := flow.TaskName(rec.Step, rec.Index)
	if done, ok := w.tasks[task]; ok && done.run != rec.Run {
		w.fault("task %s has a record in run %s although it has one in run %s, which the run resumes", task, rec.Run, done.run)
	}
	w.tasks[task] = finished{rec.Run, rec.Outcome}
}

// lines reads the record of a batch, or the document of a shard. That of a resumed run repeats what it took over.
func (w *watch) lines(content []byte, batch bool) {
	lines := json.NewDecoder(bytes.NewReader(content))
	var head records.Shard
	err := lines.Decode(&head)
	for err == nil && lines.More() && !head.Batched {
		var item records.Item
		if err = lines.Decode(&item); err != nil {
			break
		}
		w.ended(head.Foreach, head.Index, []records.Item{item})
		if batch {
			w.items[flow.TaskName(head.Foreach, records.Within(head.Index, item.Index))] = finished{head.Run, item.Outcome}
		}
	}
	if err != nil {
		w.fault("the document of a shard or a batch cannot be read: %v", err)
	}
}

// outcomes are how the tasks and items ended, without those of which the one or the other may be.
func (w *watch) outcomes() map[string]records.Outcome {
	all := map[string]records.Outcome{}
	for what, ended := range map[string]map[string]finished{"task": w.tasks, "item": w.items} {
		for name, t := range ended {
			step, x, err := flow.ParseTaskName(name)
			if err == nil && !w.maybe(step, x, what == "item") {
				all[what+" "+name] = t.outcome
			}
		}
	}
	return all
}
