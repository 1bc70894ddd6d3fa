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
}

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
	return name + string(e.point)
}

// points are those of an attempt, in order.
var points = []activities.Point{activities.PointBegin, activities.PointRan, activities.PointStored, activities.PointRecord, activities.PointNoted}

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
	broken []string
}

func newWatch(f *flow.Flow, d driver.Driver) *watch {
	return &watch{
		Driver: d, plan: f.Plan(), events: map[event]bool{}, keys: map[string]string{},
		tasks: map[string]finished{}, items: map[string]finished{},
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
	for _, n := range w.plan.Around(m.Step) {
		for k := range m.Index {
			item := flow.TaskName(n.Name, m.Index[:k+1])
			if done, ok := w.items[item]; ok && n.Kind == flow.KindForeach && done.outcome != records.Failed {
				w.fault("task %s ran again (run %s) although item %s is finished in a batch of run %s", task, m.Run, item, done.run)
			}
		}
	}
	key := flow.IdempotencyKey(ctx)
	if before, ok := w.keys[task]; ok && before != key {
		w.fault("task %s has another idempotency key in attempt %d of run %s (%s) than before (%s)", task, m.Attempt, m.Run, key, before)
	}
	w.keys[task] = key
}

// Put implements driver.Driver.
func (w *watch) Put(ctx context.Context, key string, body driver.Body, o driver.PutOptions) error {
	folders := strings.Split(key, "/")
	if len(folders) < 5 || folders[0] != "flows" || folders[3] != "tasks" && folders[3] != "batches" {
		return w.Driver.Put(ctx, key, body, o)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, before := w.Driver.Stat(ctx, key)
	if err := w.Driver.Put(ctx, key, body, o); err != nil {
		return err
	}
	if before == nil {
		w.fault("the record %s was written over", key)
	}
	content, _ := body.Data()
	if folders[3] == "tasks" {
		w.task(content)
	} else {
		w.batch(content)
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

// batch reads the record of a batch. That of a resumed run repeats what it took over.
func (w *watch) batch(content []byte) {
	lines := json.NewDecoder(bytes.NewReader(content))
	var head records.Shard
	err := lines.Decode(&head)
	for err == nil && lines.More() {
		var item records.Item
		if err = lines.Decode(&item); err == nil {
			w.items[flow.TaskName(head.Foreach, records.Within(head.Index, item.Index))] = finished{head.Run, item.Outcome}
		}
	}
	if err != nil {
		w.fault("the record of a batch cannot be read: %v", err)
	}
}

// outcomes are how the tasks and items ended.
func (w *watch) outcomes() map[string]records.Outcome {
	all := map[string]records.Outcome{}
	for name, t := range w.tasks {
		all["task "+name] = t.outcome
	}
	for name, t := range w.items {
		all["item "+name] = t.outcome
	}
	return all
}
