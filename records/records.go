package records

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
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
	Params map[string]string `json:"params,omitempty"`
	// Tags are those that the run was started with; [LoadTags] reads what became of them.
	Tags    []string  `json:"tags,omitempty"`
	User    string    `json:"user,omitempty"`
	Started time.Time `json:"started"`
	// Project is the project that the run belongs to, "" if none, and Branch its branch of the project: user.NAME, test.NAME, prod
	// or prod.NAME.
	Project string `json:"project,omitempty"`
	Branch  string `json:"branch,omitempty"`
	// Code identifies the program that started the run: its version control revision when it has one.
	Code string `json:"code,omitempty"`
	// WorkflowID, TaskQueue and Namespace say where in Temporal the run lives. The workflow's id is Flow/run, unless
	// another workflow started the run as its child.
	WorkflowID string `json:"workflow_id"`
	TaskQueue  string `json:"task_queue"`
	Namespace  string `json:"namespace,omitempty"`
	// Cluster is the id of the Temporal cluster, "" if it is not known: another cluster does not know the run.
	Cluster string `json:"cluster,omitempty"`
	// TemporalRunID is the first Temporal run of a workflow whose id may be used again, "" for one whose id is the run's own.
	TemporalRunID string `json:"temporal_run_id,omitempty"`
	// Origin is the run that this one was resumed from and Root the first of the chain; Root of a run that
	// was not resumed is the run itself.
	Origin string `json:"origin,omitempty"`
	Root   string `json:"root"`
	// Reused maps each step of which tasks were taken over to the run that has their records. A task that has no record in
	// this run has the one of that run, or of the run where that one has it from.
	Reused map[string]string `json:"reused,omitempty"`
	// Verify says that the content of finished items is to be looked at before they are taken over: some of it was gone.
	Verify bool `json:"verify,omitempty"`
	// MaxParallel bounds the tasks that run at the same time. 0 means no limit.
	MaxParallel int `json:"max_parallel,omitempty"`
}

// Outcome says how a task ended.
type Outcome string

// The outcomes of tasks and attempts. Completed, Caught and Skipped tasks have a record. Deferred attempts are followed by another
// one, and use up nothing.
const (
	Completed Outcome = "completed"
	Caught    Outcome = "caught"
	Failed    Outcome = "failed"
	Lost      Outcome = "lost"
	Cancelled Outcome = "cancelled"
	Skipped   Outcome = "skipped"
	Deferred  Outcome = "deferred"
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
	// Failure is what was caught, or was there when somebody skipped the task.
	Failure *policies.Failure `json:"failure,omitempty"`
	// Ahead is what was decided about the shapes that follow.
	Ahead flow.Ahead `json:"ahead,omitempty"`
	// Usage is what the attempt's own process used, nil if it had none.
	Usage *Usage `json:"usage,omitempty"`
}

// Usage is what the process of an isolated step, or a command, used, together with what it started.
type Usage struct {
	// PeakMemory is the most memory that was seen in use at a time, in bytes.
	PeakMemory int64 `json:"peak_memory"`
	// CPU is the time of processors.
	CPU time.Duration `json:"cpu_ns"`
}

// Ref points at a task's record. The digest is of the record's content, so a damaged record is noticed.
type Ref struct {
	Run    string           `json:"run"`
	Step   string           `json:"step"`
	Index  flow.Index       `json:"index,omitempty"`
	Digest artifacts.Digest `json:"digest"`
}

func (r Ref) equal(other Ref) bool {
	return r.Run == other.Run && r.Step == other.Step && r.Index.Equal(other.Index) && r.Digest == other.Digest
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
	// Final says that no further attempt was to follow.
	Final bool `json:"final,omitempty"`
	// Paused says that the task waits for a person, in the workflow with the id Workflow.
	Paused   bool   `json:"paused,omitempty"`
	Workflow string `json:"workflow,omitempty"`
	// Rung is the rung of the step's ladder that the attempt was on, counted from 0.
	Rung int `json:"rung,omitempty"`
	// LogBytes is how long the attempt's log was at its end.
	LogBytes int64 `json:"log_bytes,omitempty"`
	// Usage is what the attempt's own process used, nil if it had none.
	Usage *Usage `json:"usage,omitempty"`
}

// damagedEntry is the reason of an attempt whose entry cannot be read.
const damagedEntry = "its ledger entry is damaged"

// Damaged reports whether the attempt's entry could not be read: it is taken for lost, but what ended it is not known.
func (a Attempt) Damaged() bool {
	return a.Outcome == Lost && a.Failure == nil && a.Reason == damagedEntry
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

// version is the newest form of the documents that this package knows, and the one that it writes.
const version = 1

// ErrNewer says that a document was written by a Stepwell that knows more than this one. Fields that were
// merely added do not cause it.
var ErrNewer = errors.New("written by a newer Stepwell (upgrade this program)")

var legalRun = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// CheckRunID refuses what cannot be a run's id. It becomes a folder and part of a workflow id.
func CheckRunID(id string) error {
	if id == "latest" {
		return errors.New(`run id "latest" is not allowed (it means the newest run)`)
	}
	if !legalRun.MatchString(id) || strings.Contains(id, "..") {
		return fmt.Errorf("run id %q is not allowed (use up to 100 letters, digits, . _ or -, a letter or digit first, no ..)", id)
	}
	return nil
}

// FlowsPrefix is the folder of all flows.
const FlowsPrefix = "flows/"

// FlowPrefix is the folder of a flow's runs.
func FlowPrefix(flowName string) string { return FlowsPrefix + flowName + "/" }

// RunPrefix is a run's folder.
func RunPrefix(flowName, run string) string { return FlowPrefix(flowName) + run + "/" }

// RunKey is the key of run.json.
func RunKey(flowName, run string) string { return RunPrefix(flowName, run) + "run.json" }

// EndKey is the key of end.json.
func EndKey(flowName, run string) string { return RunPrefix(flowName, run) + "end.json" }

// taskPrefix joins what it is given as it is: the store refuses keys with .., which cleaning the path would
// turn into the key of something else.
func taskPrefix(flowName, run, kind, step string) string {
	return RunPrefix(flowName, run) + kind + "/" + step + "/"
}

// TaskKey is the key of a task's record. One outside of any foreach and loop has no folder of its own: a sequential step
// should not pay for one.
func TaskKey(flowName, run, step string, x flow.Index) string {
	if len(x) == 0 {
		return RunPrefix(flowName, run) + "tasks/" + step + ".json"
	}
	return taskPrefix(flowName, run, "tasks", step) + x.Key() + ".json"
}

// AttemptsPrefix is the folder of a task's ledger.
func AttemptsPrefix(flowName, run, step string, x flow.Index) string {
	return taskPrefix(flowName, run, "attempts", step) + x.Key() + "/"
}

// AttemptKey is the key of one ledger entry. Numbers are padded so that keys list in order, to a person at least.
func AttemptKey(flowName, run, step string, x flow.Index, n int) string {
	return AttemptsPrefix(flowName, run, step, x) + fmt.Sprintf("%05d.json", n)
}

// attemptNumber reads the number from the key of a ledger entry.
func attemptNumber(key string) (n int, ok bool) {
	name, ok := strings.CutSuffix(path.Base(key), ".json")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(name)
	return n, err == nil && n > 0
}

// LogsPrefix is the folder of a task's logs.
func LogsPrefix(flowName, run, step string, x flow.Index) string {
	return taskPrefix(flowName, run, "logs", step) + x.Key() + "/"
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
	digits, isLog := strings.CutSuffix(name, ".log")
	digits, catch = strings.CutSuffix(digits, "-catch")
	n, err := strconv.ParseUint(digits, 10, 31) // takes no sign
	if !isLog || err != nil {
		return 0, false, false
	}
	return int(n), catch, true
}

// CardsPrefix is the folder of a task's cards.
func CardsPrefix(flowName, run, step string, x flow.Index) string {
	return taskPrefix(flowName, run, "cards", step) + x.Key() + "/"
}

// CardKey is the key of a card.
func CardKey(flowName, run, step string, x flow.Index, name string) string {
	return CardsPrefix(flowName, run, step, x) + name + ".html"
}

// CheckpointKey is where a task keeps a document of its own from one attempt to the next. Run is the first one of a chain of
// resumes.
func CheckpointKey(flowName, run, step string, x flow.Index, name string) string {
	return RunPrefix(flowName, run) + "checkpoints/" + step + "/" + x.Key() + "/" + name
}

// CreateRun writes run.json. It fails with [artifacts.ErrExists] when the run's id is taken.
func CreateRun(ctx context.Context, s *artifacts.Store, r Run) error {
	if err := CheckRunID(r.Run); err != nil {
		return err
	}
	r.Version = version
	_, err := create(ctx, s, RunKey(r.Flow, r.Run), r)
	return err
}

// LoadRun reads run.json. It fails with [artifacts.ErrNotFound] when there is no such run, and with [ErrNewer]
// when this program is too old to read it.
func LoadRun(ctx context.Context, s *artifacts.Store, flowName, run string) (Run, error) {
	return new(Plans).LoadRun(ctx, s, flowName, run)
}

// CreateTask writes a task's record and returns a reference to it. If the task is already finished,
// the record that is there stays and stands: the reference and record returned are its.
func CreateTask(ctx context.Context, s *artifacts.Store, t Task) (Ref, Task, error) {
	t.Version = version
	ref := Ref{Run: t.Run, Step: t.Step, Index: t.Index}
	b, err := create(ctx, s, TaskKey(t.Flow, t.Run, t.Step, t.Index), t)
	if errors.Is(err, artifacts.ErrExists) {
		there, rec, err := FindTask(ctx, s, t.Flow, t.Run, t.Step, t.Index)
		if err == nil && !slices.EqualFunc(rec.Parents, t.Parents, Ref.equal) {
			return Ref{}, Task{}, fmt.Errorf("task %q of run %s/%s %w, made from another state (is the run's id used twice?)",
				flow.TaskName(t.Step, t.Index), t.Flow, t.Run, artifacts.ErrExists)
		}
		return there, rec, err
	}
	if err != nil {
		return Ref{}, Task{}, err
	}
	ref.Digest = s.KeepDoc(b)
	return ref, t, nil
}

// FindTask reads a task's record without knowing its digest. It fails with [artifacts.ErrNotFound]
// when the task is not finished, and with [ErrNewer] when this program is too old to read the record.
func FindTask(ctx context.Context, s *artifacts.Store, flowName, run, step string, x flow.Index) (Ref, Task, error) {
	key := TaskKey(flowName, run, step, x)
	b, err := s.GetDoc(ctx, key)
	if err != nil {
		return Ref{}, Task{}, err
	}
	var t Task
	if err := decode(s, key, b, &t, &t.Version); err != nil {
		return Ref{}, Task{}, err
	}
	if t.Flow != flowName || t.Run != run || t.Step != step || !t.Index.Equal(x) {
		return Ref{}, Task{}, corrupt(s, key, fmt.Sprintf("it is the record of task %s/%s/%s", t.Flow, t.Run, flow.TaskName(t.Step, t.Index)))
	}
	return Ref{Run: run, Step: step, Index: x, Digest: artifacts.Sum(b)}, t, nil
}

// LoadTask reads the record that ref points at and checks its digest. A record that differs is
// [artifacts.ErrCorrupt].
func LoadTask(ctx context.Context, s *artifacts.Store, flowName string, ref Ref) (Task, error) {
	key := TaskKey(flowName, ref.Run, ref.Step, ref.Index)
	b, err := s.GetDocAs(ctx, key, ref.Digest)
	if err != nil {
		return Task{}, err
	}
	var t Task
	if err := decode(s, key, b, &t, &t.Version); err != nil {
		return Task{}, err
	}
	return t, nil
}

// PutAttempt writes a ledger entry.
func PutAttempt(ctx context.Context, s *artifacts.Store, flowName, run, step string, x flow.Index, a Attempt) error {
	return put(ctx, s, AttemptKey(flowName, run, step, x, a.Attempt), a)
}

// Attempts reads a task's ledger, oldest first.
func Attempts(ctx context.Context, s *artifacts.Store, flowName, run, step string, x flow.Index) ([]Attempt, error) {
	return AttemptsFrom(ctx, s, flowName, run, step, x, 1)
}

// AttemptsFrom reads a task's ledger from the attempt with the given number on, oldest first.
func AttemptsFrom(ctx context.Context, s *artifacts.Store, flowName, run, step string, x flow.Index, first int) ([]Attempt, error) {
	var all []Attempt
	for info, err := range s.List(ctx, AttemptsPrefix(flowName, run, step, x)) {
		if err != nil {
			return nil, err
		}
		n, numbered := attemptNumber(info.Key)
		if !numbered || n < first {
			continue
		}
		var a Attempt
		err := load(ctx, s, info.Key, &a)
		if err != nil && !errors.Is(err, artifacts.ErrCorrupt) {
			return nil, err
		}
		if err != nil || a.Attempt != n { // a damaged ledger must not keep a task from going on
			a = Attempt{Attempt: n, Outcome: Lost, Reason: damagedEntry}
		}
		all = append(all, a)
	}
	slices.SortStableFunc(all, func(a, b Attempt) int { return cmp.Compare(a.Attempt, b.Attempt) }) // keys stop at 99999
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

// PutEnd writes end.json, whatever is there: the workflow was reset, and ended again.
func PutEnd(ctx context.Context, s *artifacts.Store, flowName, run string, e End) error {
	return put(ctx, s, EndKey(flowName, run), e)
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
	return decodeJSON(s, key, b, v)
}

func decodeJSON(s *artifacts.Store, key string, b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return corrupt(s, key, "it is not the document it should be: "+err.Error())
	}
	return nil
}

// decode reads a document that has a version into v; have points at v's version.
func decode(s *artifacts.Store, key string, b []byte, v any, have *int) error {
	err := decodeJSON(s, key, b, v)
	if err != nil {
		// A newer form need not fit into v: what it says of itself counts.
		var newer struct {
			Version int `json:"version"`
		}
		if json.Unmarshal(b, &newer) != nil || newer.Version <= version {
			return err
		}
		*have = newer.Version
	}
	switch {
	case *have > version:
		return fmt.Errorf("%q in store %q has version %d, this program knows %d: %w", key, s, *have, version, ErrNewer)
	case *have < 1:
		return corrupt(s, key, "it has no version")
	}
	return nil
}

// corrupt says that a document cannot be what was written.
func corrupt(s *artifacts.Store, key, reason string) error {
	return &artifacts.CorruptError{Key: key, Store: s.String(), Reason: reason}
}
