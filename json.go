package stepwell

import (
	"context"
	"errors"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// This file holds what --json prints. Scripts rely on the names of the fields: they may get company, but they stay.
// Times are RFC 3339, durations are seconds, what is not known is left out.

// runDocument is a run: of show, run, resume, attach, and without its tasks of list.
type runDocument struct {
	Pathspec        string            `json:"pathspec"`
	Flow            string            `json:"flow"`
	Run             string            `json:"run"`
	Status          records.Status    `json:"status"`
	Started         time.Time         `json:"started"`
	Ended           time.Time         `json:"ended,omitzero"`
	DurationSeconds float64           `json:"duration_seconds,omitempty"`
	User            string            `json:"user,omitempty"`
	Tags            []string          `json:"tags,omitempty"`
	Project         string            `json:"project,omitempty"`
	Branch          string            `json:"branch,omitempty"`
	Params          map[string]string `json:"params,omitempty"`
	// Origin is the run that this one was resumed from, Root the first of a chain of resumes.
	Origin     string `json:"origin,omitempty"`
	Root       string `json:"root"`
	Code       string `json:"code,omitempty"`
	WorkflowID string `json:"workflow_id"`
	TaskQueue  string `json:"task_queue"`
	Namespace  string `json:"namespace,omitempty"`
	Store      string `json:"store"`
	// Failure is the first failure of a failed run.
	Failure *policies.Failure `json:"failure,omitempty"`
	// Steps are in the order of the plan, their tasks counted.
	Steps []stepDocument `json:"steps,omitempty"`
	// Tasks are in the order of the plan, those that have not started included. Steps in a foreach or a loop, which may have
	// any number of tasks, are counted in Steps alone.
	Tasks []taskDocument `json:"tasks,omitempty"`
}

// stepDocument is a step with its tasks counted: of show.
type stepDocument struct {
	Pathspec string `json:"pathspec"`
	Step     string `json:"step"`
	// In names the foreach shapes and loops around the step, outermost first.
	In    []string   `json:"in,omitempty"`
	State runs.State `json:"state"`
	// Total is how many tasks there will be or were, 0 while that is not known.
	Total int `json:"total"`
	// Completed counts the tasks that ended well, Caught those of them whose failure was caught, Reused those of them that were
	// taken over from another run.
	Completed  int `json:"completed"`
	Caught     int `json:"caught,omitempty"`
	Reused     int `json:"reused,omitempty"`
	Failed     int `json:"failed,omitempty"`
	Cancelled  int `json:"cancelled,omitempty"`
	Running    int `json:"running,omitempty"`
	Paused     int `json:"paused,omitempty"`
	Unfinished int `json:"unfinished,omitempty"`
	// RecordedBy names the steps one of which is the last of an item, when there were, or may have been, tasks in batches that are not
	// counted: an item of a batch has one record, that of its last task.
	RecordedBy []string `json:"recorded_by,omitempty"`
	// Tasks are those that were asked for, when one step is shown, and More is how many others there are.
	Tasks []taskDocument `json:"tasks,omitempty"`
	More  int            `json:"more,omitempty"`
}

// foreachDocument is a foreach with its items counted: of show.
type foreachDocument struct {
	Pathspec string     `json:"pathspec"`
	Foreach  string     `json:"foreach"`
	State    runs.State `json:"state"`
	// Items is how many there are, 0 while that is not known.
	Items     int `json:"items"`
	Completed int `json:"completed"`
	Failed    int `json:"failed,omitempty"`
	// Running counts tasks.
	Running int            `json:"running,omitempty"`
	Steps   []stepDocument `json:"steps"`
	// First is the task that failed first.
	First *taskDocument `json:"first_failed,omitempty"`
}

// taskDocument is a task: of show.
type taskDocument struct {
	Pathspec string     `json:"pathspec"`
	Step     string     `json:"step"`
	Task     string     `json:"task"`
	Index    flow.Index `json:"index,omitempty"`
	State    runs.State `json:"state"`
	// Skipped says that a person skipped the task.
	Skipped bool `json:"skipped,omitempty"`
	// RecordedBy is the last task of the item, of a task in a batch which the item went on after: it has the item's only record.
	RecordedBy string `json:"recorded_by,omitempty"`
	// ReusedFrom is the run that a resumed run took the task over from.
	ReusedFrom string    `json:"reused_from,omitempty"`
	Started    time.Time `json:"started,omitzero"`
	Ended      time.Time `json:"ended,omitzero"`
	// DurationSeconds is from the start of the first attempt to the end, the waits between attempts included.
	DurationSeconds float64           `json:"duration_seconds,omitempty"`
	MaximumAttempts int               `json:"maximum_attempts"`
	Attempts        []attemptDocument `json:"attempts"`
	Pending         *pendingDocument  `json:"pending,omitempty"`
	// Failure is what the task failed with, also when it was caught.
	Failure *policies.Failure `json:"failure,omitempty"`
	// Set names the artifacts that the task set.
	Set []string `json:"set,omitempty"`
	// Artifacts is the whole state after the task, and Cards names its cards: both only when one task is shown.
	Artifacts []artifactDocument `json:"artifacts,omitempty"`
	Cards     []string           `json:"cards,omitempty"`

	batched bool
}

// attemptDocument is one try of a task.
type attemptDocument struct {
	Attempt         int             `json:"attempt"`
	Outcome         records.Outcome `json:"outcome"`
	Worker          string          `json:"worker,omitempty"`
	Started         time.Time       `json:"started,omitzero"`
	Ended           time.Time       `json:"ended,omitzero"`
	DurationSeconds float64         `json:"duration_seconds,omitempty"`
	// WaitedSeconds is how long after the end of the attempt before this one started.
	WaitedSeconds float64           `json:"waited_seconds,omitempty"`
	Failure       *policies.Failure `json:"failure,omitempty"`
	// PeakMemory, in bytes, and CPUSeconds are what the attempt's own process used, if it had one.
	PeakMemory int64   `json:"peak_memory,omitempty"`
	CPUSeconds float64 `json:"cpu_seconds,omitempty"`
	// CodeFailure says that the attempt counts against the step's maximum.
	CodeFailure bool `json:"code_failure,omitempty"`
	// DelaySeconds is the wait that was chosen before the next attempt; Reason says why, or why there is none.
	DelaySeconds float64 `json:"delay_seconds,omitempty"`
	Reason       string  `json:"reason,omitempty"`
	// damaged says that nothing is known of the attempt but its number.
	damaged bool
}

// pendingDocument is what Temporal says of a task that has not ended.
type pendingDocument struct {
	Attempt int               `json:"attempt"`
	Running bool              `json:"running"`
	Catch   bool              `json:"catch,omitempty"`
	Started time.Time         `json:"started,omitzero"`
	Next    time.Time         `json:"next,omitzero"`
	Done    int64             `json:"done,omitempty"`
	Total   int64             `json:"total,omitempty"`
	Failure *policies.Failure `json:"failure,omitempty"`
}

// artifactDocument describes an artifact.
type artifactDocument struct {
	Name   string           `json:"name"`
	Type   string           `json:"type"`
	Codec  string           `json:"codec"`
	Size   int64            `json:"size"`
	Digest artifacts.Digest `json:"digest"`
	// SetBy is the task that set it, as "run/task".
	SetBy string `json:"set_by,omitempty"`
	// File is the name of a file.
	File    string `json:"file,omitempty"`
	Preview string `json:"preview"`
}

// flowDocument is a flow of list.
type flowDocument struct {
	Flow   string       `json:"flow"`
	Runs   int          `json:"runs"`
	Latest *runDocument `json:"latest,omitempty"`
}

// whyDocument is what why says.
type whyDocument struct {
	Pathspec string         `json:"pathspec"`
	Status   records.Status `json:"status"`
	// Tags are the run's, with those of its project, when a whole run is explained.
	Tags []string `json:"tags,omitempty"`
	// Failure is what the run failed with first; Task is the task of it with its attempts.
	Failure *policies.Failure `json:"failure,omitempty"`
	Task    *taskDocument     `json:"task,omitempty"`
	// Caught are the tasks whose failure was caught: of each step some.
	Caught []taskDocument `json:"caught"`
	// Failed counts the tasks of each step of which some failed, with the one that failed first. The run went on without them
	// if it completed.
	Failed []stepDocument `json:"failed,omitempty"`
	// Paused names tasks that wait for a person: of each step some.
	Paused []string `json:"paused,omitempty"`
	// Explanation is the text that why prints, a sentence each, and Next the commands that help.
	Explanation []string       `json:"explanation"`
	Next        []nextDocument `json:"next"`
}

// nextDocument is a command that helps.
type nextDocument struct {
	Command string `json:"command"`
	Purpose string `json:"purpose"`
}

// logDocument is a line of logs.
type logDocument struct {
	Time    time.Time      `json:"time,omitzero"`
	Level   string         `json:"level,omitempty"`
	Task    string         `json:"task"`
	Attempt int            `json:"attempt"`
	Catch   bool           `json:"catch,omitempty"`
	Message string         `json:"message"`
	Attrs   map[string]any `json:"attrs,omitempty"`
}

// valueDocument is an artifact of dump. Value is left out when it is larger than what was asked for.
type valueDocument struct {
	Name   string           `json:"name"`
	Type   string           `json:"type"`
	Size   int64            `json:"size"`
	Digest artifacts.Digest `json:"digest"`
	File   string           `json:"file,omitempty"`
	Value  any              `json:"value,omitempty"`
	// Omitted says why there is no value.
	Omitted string `json:"omitted,omitempty"`
}

// checkDocument is a flow of check.
type checkDocument struct {
	Flow   string   `json:"flow"`
	OK     bool     `json:"ok"`
	Steps  int      `json:"steps"`
	Shapes int      `json:"shapes"`
	Params int      `json:"params"`
	Errors []string `json:"errors,omitempty"`
	// Warnings are what is allowed and probably not meant.
	Warnings []stepWarning `json:"warnings,omitempty"`
}

// cardDocument is a card of a task.
type cardDocument struct {
	Pathspec string `json:"pathspec"`
	Name     string `json:"name"`
	// Path is the card's file, where the store is a directory or the card was written to a file.
	Path string `json:"path,omitempty"`
}

// documentFacts describes a run without its tasks.
func documentFacts(r *runs.Run, store *artifacts.Store) runDocument {
	return runDocument{
		Pathspec: r.Pathspec(), Flow: r.Flow, Run: r.Run.Run, Status: r.Status, Started: r.Started, Ended: r.Ended,
		DurationSeconds: r.Duration().Seconds(), User: r.User, Tags: r.Tags, Project: r.Project, Branch: r.Branch,
		Params: r.Params, Origin: r.Origin, Root: r.Root,
		Code: r.Code, WorkflowID: r.WorkflowID, TaskQueue: r.TaskQueue, Namespace: r.Namespace, Store: store.String(), Failure: r.Failure,
	}
}

// documentRun describes a run with its tasks.
func documentRun(ctx context.Context, r *runs.Run, store *artifacts.Store) (runDocument, error) {
	doc := documentFacts(r, store)
	steps, err := r.Steps(ctx)
	if err != nil {
		return doc, err
	}
	for _, s := range steps {
		doc.Steps = append(doc.Steps, documentStep(r, s))
		if s.Task == nil {
			continue
		}
		task, err := documentTask(ctx, r, s.Task)
		if err != nil {
			return doc, err
		}
		doc.Tasks = append(doc.Tasks, task)
	}
	return doc, nil
}

// documentStep describes a step without its tasks.
func documentStep(r *runs.Run, s *runs.Step) stepDocument {
	doc := stepDocument{
		Pathspec: r.Pathspec() + "/" + s.Name, Step: s.Name, In: s.Shapes, State: s.State, Total: s.Total, Completed: s.Completed, Caught: s.Caught,
		Reused: s.Reused, Failed: s.Failed, Cancelled: s.Cancelled, Running: s.Running, Paused: s.Paused, Unfinished: s.Unfinished,
	}
	if s.Untold || s.State == runs.InBatches {
		doc.RecordedBy = s.RecordedBy()
	}
	return doc
}

// documentTask describes a task with its attempts.
func documentTask(ctx context.Context, r *runs.Run, t *runs.Task) (taskDocument, error) {
	doc := taskDocument{
		Pathspec: t.Pathspec(), Step: t.Step, Task: t.Name(), Index: t.Index, State: t.State,
		MaximumAttempts: maximumAttempts(r.Plan, t.Step), Attempts: []attemptDocument{}, RecordedBy: t.RecordedBy(), batched: t.Batched(),
	}
	if t.Reused() {
		doc.ReusedFrom = t.Owner
	}
	if t.State == runs.NotStarted || t.State == runs.Skipped || t.State == runs.InBatches {
		return doc, nil
	}
	attempts, err := t.Attempts(ctx)
	if err != nil {
		return doc, err
	}
	for _, a := range attempts {
		d := attemptDocument{
			Attempt: a.Attempt.Attempt, Outcome: a.Outcome, Worker: a.Worker, Started: a.Started, Ended: a.Ended,
			WaitedSeconds: a.Waited.Seconds(), Failure: a.Failure, CodeFailure: a.CountsAsCodeFailure,
			DelaySeconds: a.Delay.Seconds(), Reason: a.Reason, damaged: a.Damaged(),
		}
		if u := a.Usage; u != nil {
			d.PeakMemory, d.CPUSeconds = u.PeakMemory, u.CPU.Seconds()
		}
		if !a.Started.IsZero() && !a.Ended.IsZero() {
			d.DurationSeconds = a.Ended.Sub(a.Started).Seconds()
		}
		doc.Attempts = append(doc.Attempts, d)
	}
	doc.Started, doc.Ended = taskTimes(t, attempts)
	if !doc.Started.IsZero() && !doc.Ended.IsZero() {
		doc.DurationSeconds = doc.Ended.Sub(doc.Started).Seconds()
	}
	if rec := t.Record; rec != nil {
		doc.Skipped = rec.Outcome == records.Skipped
		doc.Failure, doc.Set = rec.Failure, rec.Changed
	} else if t.Failure != nil {
		doc.Failure = t.Failure
	} else if n := len(attempts); n > 0 {
		doc.Failure = attempts[n-1].Failure
	}
	if p := t.Pending; p != nil {
		doc.Pending = &pendingDocument{
			Attempt: p.Attempt, Running: p.Running, Catch: p.Catch, Started: p.Started, Next: p.Next, Done: p.Done, Total: p.Total, Failure: p.Failure,
		}
	}
	return doc, nil
}

// taskTimes are when a task's first attempt started and when the task ended, zero where that is not known.
func taskTimes(t *runs.Task, attempts []runs.Attempt) (started, ended time.Time) {
	for _, a := range attempts {
		if !a.Started.IsZero() {
			started = a.Started
			break
		}
	}
	switch {
	case t.Record != nil:
		if started.IsZero() {
			started = t.Record.Started
		}
		ended = t.Record.Ended
	case t.Pending == nil && len(attempts) > 0:
		ended = attempts[len(attempts)-1].Ended
	}
	return started, ended
}

// previewed is the size up to which an artifact that is not inline is read for its preview.
const previewed = 64 << 10

// documentArtifacts describes the state after a task.
func documentArtifacts(ctx context.Context, t *runs.Task, width int) ([]artifactDocument, error) {
	var out []artifactDocument
	for _, name := range t.Artifacts() {
		e, err := t.Artifact(name)
		if err != nil {
			return nil, err
		}
		d := artifactDocument{
			Name: name, Type: e.Type, Codec: e.Codec, Size: e.Size, Digest: e.Digest, SetBy: e.By, File: e.Name,
		}
		var content []byte
		if e.Size <= previewed && e.Name == "" {
			_, content, err = t.Content(ctx, name)
			switch {
			case errors.Is(err, artifacts.ErrNotFound):
				d.Preview = "(the content is gone)"
			case errors.Is(err, artifacts.ErrCorrupt):
				d.Preview = "(the content is damaged)"
			case err != nil:
				return nil, err
			}
		}
		if d.Preview == "" {
			d.Preview = artifacts.Preview(e, content, width)
		}
		out = append(out, d)
	}
	return out, nil
}
