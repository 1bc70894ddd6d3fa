package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// Run is run.json: what was started. It is written once, before the workflow starts.
type Run struct {
	Version int       `json:"version"`
	Flow    string    `json:"flow"`
	Run     string    `json:"run"`
	Plan    flow.Plan `json:"plan"`
	// Params are the resolved parameters as text.
	Params  map[string]string `json:"params,omitempty"`
	Tags    []string          `json:"tags,omitempty"`
	User    string            `json:"user,omitempty"`
	Started time.Time         `json:"started"`
	// Code identifies the program that started the run: its version control revision when it has one.
	Code string `json:"code,omitempty"`
	// WorkflowID, TaskQueue and Namespace say where in Temporal the run lives. The workflow's id is Flow/run, unless
	// another workflow started the run as its child.
	WorkflowID string `json:"workflow_id"`
	TaskQueue  string `json:"task_queue"`
	Namespace  string `json:"namespace,omitempty"`
	// Origin is the run that this one was resumed from and Root the first of the chain; Root of a run that
	// was not resumed is the run itself.
	Origin string `json:"origin,omitempty"`
	Root   string `json:"root"`
	// Reused maps each step that was taken over to the run whose records it uses.
	Reused map[string]string `json:"reused,omitempty"`
}

// Outcome says how a task ended.
type Outcome string

// The outcomes of tasks and attempts. Completed and Caught tasks have a record.
const (
	Completed Outcome = "completed"
	Caught    Outcome = "caught"
	Failed    Outcome = "failed"
	Lost      Outcome = "lost"
	Cancelled Outcome = "cancelled"
)

// Task is the record of a finished task.
type Task struct {
	Version int        `json:"version"`
	Flow    string     `json:"flow"`
	Run     string     `json:"run"`
	Step    string     `json:"step"`
	Index   flow.Index `json:"index,omitempty"`
	Outcome Outcome    `json:"outcome"`
	// Attempt is the attempt that finished the task; with a caught failure, the last one that failed.
	Attempt int       `json:"attempt"`
	Worker  string    `json:"worker,omitempty"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	// Parents are the records that the task started from.
	Parents []Ref `json:"parents,omitempty"`
	// Artifacts is the whole state after the task, Changed what this task set.
	Artifacts map[string]artifacts.Entry `json:"artifacts"`
	Changed   []string                   `json:"changed,omitempty"`
	// Failure is what was caught.
	Failure *policies.Failure `json:"failure,omitempty"`
}

// Ref points at a task's record. The digest is of the record's content, so a damaged record is noticed.
type Ref struct {
	Run    string           `json:"run"`
	Step   string           `json:"step"`
	Index  flow.Index       `json:"index,omitempty"`
	Digest artifacts.Digest `json:"digest"`
}

// Attempt is the ledger entry of an attempt that did not finish its task. The attempt that did is in the record.
type Attempt struct {
	Attempt int     `json:"attempt"`
	Outcome Outcome `json:"outcome"`
	Worker  string  `json:"worker,omitempty"`
	// Started is zero for a lost attempt whose worker died before it could tell.
	Started time.Time         `json:"started,omitzero"`
	Ended   time.Time         `json:"ended,omitzero"`
	Failure *policies.Failure `json:"failure,omitempty"`
	// CountsAsCodeFailure is true when the attempt used up one of MaximumAttempts.
	CountsAsCodeFailure bool `json:"code_failure,omitempty"`
	// Delay is the wait before the next attempt, zero when there is none; Reason says why.
	Delay  time.Duration `json:"delay_ns,omitempty"`
	Reason string        `json:"reason,omitempty"`
}

// Status is the state of a run.
type Status string

// The states of a run.
const (
	StatusRunning   Status = "running"
	StatusCompleted Status = "completed"
	StatusFailed    Status = "failed"
	StatusCancelled Status = "cancelled"
)

// End is end.json: how a run ended.
type End struct {
	Status Status    `json:"status"`
	Ended  time.Time `json:"ended"`
	// Failure is the first failure of a failed run.
	Failure *policies.Failure `json:"failure,omitempty"`
	// Last is the record that the run ended with, if any task finished.
	Last *Ref `json:"last,omitempty"`
}

// version is of the documents' form.
const version = 1

var legalRun = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// CheckRunID refuses what cannot be a run's id. It becomes a folder and part of a workflow id.
func CheckRunID(id string) error {
	if !legalRun.MatchString(id) || strings.Contains(id, "..") {
		return fmt.Errorf("run id %q is not allowed (use up to 100 letters, digits, . _ or -, no path)", id)
	}
	return nil
}

// FlowsPrefix is the folder of all flows.
const FlowsPrefix = "flows/"

// FlowPrefix is the folder of a flow's runs.
func FlowPrefix(flowName string) string { return path.Join("flows", flowName) + "/" }

// RunPrefix is a run's folder.
func RunPrefix(flowName, run string) string { return path.Join("flows", flowName, run) + "/" }

// RunKey is the key of run.json.
func RunKey(flowName, run string) string { return RunPrefix(flowName, run) + "run.json" }

// EndKey is the key of end.json.
func EndKey(flowName, run string) string { return RunPrefix(flowName, run) + "end.json" }

// TaskKey is the key of a task's record.
func TaskKey(flowName, run, step string, x flow.Index) string {
	return RunPrefix(flowName, run) + path.Join("tasks", step, x.Key()+".json")
}

// AttemptsPrefix is the folder of a task's ledger.
func AttemptsPrefix(flowName, run, step string, x flow.Index) string {
	return RunPrefix(flowName, run) + path.Join("attempts", step, x.Key()) + "/"
}

// AttemptKey is the key of one ledger entry. Numbers are padded so that keys list in order.
func AttemptKey(flowName, run, step string, x flow.Index, n int) string {
	return AttemptsPrefix(flowName, run, step, x) + fmt.Sprintf("%05d.json", n)
}

// LogsPrefix is the folder of a task's logs.
func LogsPrefix(flowName, run, step string, x flow.Index) string {
	return RunPrefix(flowName, run) + path.Join("logs", step, x.Key()) + "/"
}

// LogKey is the key of one attempt's log. The catch function logs under its own name.
func LogKey(flowName, run, step string, x flow.Index, attempt int, catch bool) string {
	name := fmt.Sprintf("%05d", attempt)
	if catch {
		name += "-catch"
	}
	return LogsPrefix(flowName, run, step, x) + name + ".log"
}

// ParseLogName reads the file name of a log's key.
func ParseLogName(name string) (attempt int, catch, ok bool) {
	name, ok = strings.CutSuffix(name, ".log")
	if !ok {
		return 0, false, false
	}
	name, catch = strings.CutSuffix(name, "-catch")
	n, err := strconv.Atoi(name)
	return n, catch, err == nil
}

// CardsPrefix is the folder of a task's cards.
func CardsPrefix(flowName, run, step string, x flow.Index) string {
	return RunPrefix(flowName, run) + path.Join("cards", step, x.Key()) + "/"
}

// CardKey is the key of a card.
func CardKey(flowName, run, step string, x flow.Index, name string) string {
	return CardsPrefix(flowName, run, step, x) + name + ".html"
}

// CreateRun writes run.json. It fails with [artifacts.ErrExists] when the run's id is taken.
func CreateRun(ctx context.Context, s *artifacts.Store, r Run) error {
	r.Version = version
	_, err := create(ctx, s, RunKey(r.Flow, r.Run), r)
	return err
}

// LoadRun reads run.json. It fails with [artifacts.ErrNotFound] when there is no such run.
func LoadRun(ctx context.Context, s *artifacts.Store, flowName, run string) (Run, error) {
	var r Run
	if err := CheckRunID(run); err != nil {
		return r, err
	}
	return r, load(ctx, s, RunKey(flowName, run), &r)
}

// CreateTask writes a task's record and returns a reference to it. If the task is already finished,
// the record that is there stays and stands: the reference and record returned are its.
func CreateTask(ctx context.Context, s *artifacts.Store, t Task) (Ref, Task, error) {
	t.Version = version
	ref := Ref{Run: t.Run, Step: t.Step, Index: t.Index}
	b, err := create(ctx, s, TaskKey(t.Flow, t.Run, t.Step, t.Index), t)
	if errors.Is(err, artifacts.ErrExists) {
		return FindTask(ctx, s, t.Flow, t.Run, t.Step, t.Index)
	}
	if err != nil {
		return Ref{}, Task{}, err
	}
	ref.Digest = artifacts.Sum(b)
	return ref, t, nil
}

// FindTask reads a task's record without knowing its digest. It fails with [artifacts.ErrNotFound]
// when the task is not finished.
func FindTask(ctx context.Context, s *artifacts.Store, flowName, run, step string, x flow.Index) (Ref, Task, error) {
	key := TaskKey(flowName, run, step, x)
	b, err := s.GetDoc(ctx, key)
	if err != nil {
		return Ref{}, Task{}, err
	}
	t, err := decodeTask(s, key, b)
	return Ref{Run: run, Step: step, Index: x, Digest: artifacts.Sum(b)}, t, err
}

// LoadTask reads the record that ref points at and checks its digest. A record that differs is
// [artifacts.ErrCorrupt].
func LoadTask(ctx context.Context, s *artifacts.Store, flowName string, ref Ref) (Task, error) {
	key := TaskKey(flowName, ref.Run, ref.Step, ref.Index)
	b, err := s.GetDoc(ctx, key)
	if err != nil {
		return Task{}, err
	}
	if got := artifacts.Sum(b); got != ref.Digest {
		return Task{}, corrupt(s, key, fmt.Sprintf("its content has digest %s, not %s", got, ref.Digest))
	}
	return decodeTask(s, key, b)
}

func decodeTask(s *artifacts.Store, key string, b []byte) (Task, error) {
	var t Task
	if err := json.Unmarshal(b, &t); err != nil {
		return Task{}, corrupt(s, key, "it is not a task's record: "+err.Error())
	}
	return t, nil
}

// PutAttempt writes a ledger entry.
func PutAttempt(ctx context.Context, s *artifacts.Store, flowName, run, step string, x flow.Index, a Attempt) error {
	return put(ctx, s, AttemptKey(flowName, run, step, x, a.Attempt), a)
}

// Attempts reads a task's ledger, oldest first.
func Attempts(ctx context.Context, s *artifacts.Store, flowName, run, step string, x flow.Index) ([]Attempt, error) {
	var all []Attempt
	for info, err := range s.List(ctx, AttemptsPrefix(flowName, run, step, x)) {
		if err != nil {
			return nil, err
		}
		var a Attempt
		if err := load(ctx, s, info.Key, &a); err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// CreateEnd writes end.json; a second call changes nothing.
func CreateEnd(ctx context.Context, s *artifacts.Store, flowName, run string, e End) error {
	_, err := create(ctx, s, EndKey(flowName, run), e)
	if errors.Is(err, artifacts.ErrExists) {
		return nil
	}
	return err
}

// LoadEnd reads end.json. It fails with [artifacts.ErrNotFound] while the run has not ended.
func LoadEnd(ctx context.Context, s *artifacts.Store, flowName, run string) (End, error) {
	var e End
	return e, load(ctx, s, EndKey(flowName, run), &e)
}

func create(ctx context.Context, s *artifacts.Store, key string, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	return b, s.CreateDoc(ctx, key, b)
}

func put(ctx context.Context, s *artifacts.Store, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	return s.PutDoc(ctx, key, b)
}

func load(ctx context.Context, s *artifacts.Store, key string, v any) error {
	b, err := s.GetDoc(ctx, key)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return corrupt(s, key, "it is not the document it should be: "+err.Error())
	}
	return nil
}

// corrupt says that a document cannot be what was written.
func corrupt(s *artifacts.Store, key, reason string) error {
	return &artifacts.CorruptError{Key: key, Store: s.String(), Reason: reason}
}
