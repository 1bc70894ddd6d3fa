package stepwell

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// ExportOptions are the choices of an export. The zero value is ready.
type ExportOptions struct {
	// Secrets writes parameters and artifacts that look like secrets, too. Without it they are refused.
	Secrets bool
	// MaxBytes is how large the artifacts may be together. Defaults to 100 MiB; a negative number means any size.
	MaxBytes int64
}

// Exported is a task with all that it starts from, in a directory of its own.
type Exported struct {
	Version int `json:"version"`
	// Pathspec is the task's.
	Pathspec string `json:"pathspec"`
	activities.SpinInput
	// To is the step that is meant if it comes later in an item of a batch: its item is run from the first step on, which is the one of
	// the input.
	To string `json:"to,omitempty"`
	// State is how the task ended in the run, Failure why if it failed, and Set the digests of what it set if it did not.
	State   runs.State                  `json:"state"`
	Failure *policies.Failure           `json:"failure,omitempty"`
	Changed map[string]artifacts.Digest `json:"set,omitempty"`
	// Secrets are the names of parameters and artifacts that look like secrets and were written.
	Secrets []string `json:"secrets,omitempty"`
	// Bytes is the size of the artifacts.
	Bytes int64 `json:"bytes"`
}

const (
	exportVersion  = 1
	exportFile     = "task.json"
	exportStore    = "store"
	maxExportBytes = 100 << 20
)

// ExportTask writes all that a task of a run starts from into a new directory, to run it elsewhere with [SpinExported]: the parameters, the
// artifacts of the state before it, its item, the inputs of a join. A directory that exists is refused, and so are secrets and more than
// o.MaxBytes, with nothing written.
func ExportTask(ctx context.Context, f *flow.Flow, t *runs.Task, dir string, o ExportOptions) (*Exported, error) {
	if err := f.Check(); err != nil {
		return nil, &InputError{err}
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = maxExportBytes
	}
	in, err := spinInput(ctx, f, t, nil)
	if err != nil {
		return nil, err
	}
	if err := t.Explain(ctx); err != nil {
		return nil, err
	}
	out := &Exported{Version: exportVersion, Pathspec: t.Pathspec(), SpinInput: in.SpinInput, To: in.To, State: t.State, Failure: t.Failure}
	if t.Record != nil && t.State == runs.Completed {
		out.Changed = map[string]artifacts.Digest{}
		for _, name := range t.Record.Changed {
			if e, ok := t.Record.Artifacts[name]; ok {
				out.Changed[name] = e.Digest
			}
		}
	}
	if out.Secrets, err = secretsIn(ctx, f, t, in); err != nil {
		return nil, err
	}
	if len(out.Secrets) > 0 && !o.Secrets {
		return nil, inputf("%s of %s looks like a secret, and would be written to files (add --secrets to write it all the same)", strings.Join(out.Secrets, ", "), t.Pathspec())
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil, inputf("%q exists (name a new directory, or remove it)", dir)
	}
	if err := export(ctx, f, t.Run().Store(), dir, out, max(o.MaxBytes, 0)); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return out, nil
}

// secretsIn are the names of what looks like a secret in the input of a task.
func secretsIn(ctx context.Context, f *flow.Flow, t *runs.Task, in spinTask) ([]string, error) {
	store := t.Run().Store()
	named := map[string]string{}
	if in.In.From != nil {
		rec, err := records.LoadTask(ctx, store, in.In.Flow, *in.In.From)
		if err != nil {
			return nil, err
		}
		for name, e := range rec.Artifacts {
			if len(e.Inline) > 0 && e.Codec == "string" {
				named[name] = string(e.Inline)
			}
		}
	}
	maps.Copy(named, in.Run.Params)
	return activities.New(store, activities.Options{}, f).Secrets(named), nil
}

// export copies what the task reads into a store in the directory, and describes it.
func export(ctx context.Context, f *flow.Flow, from *artifacts.Store, dir string, out *Exported, limit int64) error {
	own, err := artifacts.Open(ctx, filepath.Join(dir, exportStore), artifacts.Options{})
	if err != nil {
		return err
	}
	copying := artifacts.Copying(own, from)
	if _, err := records.LoadRun(ctx, copying, out.In.Flow, out.In.Run); err != nil {
		return err
	}
	out.Bytes, err = activities.New(copying, activities.Options{}, f).Inputs(ctx, out.SpinInput, limit)
	if much, ok := errors.AsType[*activities.TooMuchError](err); ok {
		return inputf("what %s starts from has more than %s (add --max-bytes N)", out.Pathspec, byteSize(much.Limit))
	}
	if err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(dir, exportStore, ".tmp")) // it is empty
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, exportFile), append(b, '\n'), 0o644)
}

// OpenExported reads what [ExportTask] wrote.
func OpenExported(dir string) (*Exported, error) {
	b, err := os.ReadFile(filepath.Join(dir, exportFile))
	if err != nil {
		return nil, &InputError{err}
	}
	var e Exported
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, inputf("%s: %w", filepath.Join(dir, exportFile), err)
	}
	if e.Version < 1 || e.Version > exportVersion {
		return nil, inputf("%s has version %d, this program knows %d (upgrade this program)", filepath.Join(dir, exportFile), e.Version, exportVersion)
	}
	return &e, nil
}

// SpinExported is [Spin] of a task that [ExportTask] wrote to a directory, which is not changed.
func SpinExported(ctx context.Context, f *flow.Flow, dir string, o SpinOptions) (*Spun, error) {
	if err := f.Check(); err != nil {
		return nil, &InputError{err}
	}
	e, err := OpenExported(dir)
	if err != nil {
		return nil, err
	}
	in := spinTask{e.SpinInput, e.To}
	if in.In.Flow != f.Name() {
		return nil, inputf("%s is a task of flow %q, not of %q", e.Pathspec, in.In.Flow, f.Name())
	}
	plan := f.Plan()
	if n, ok := plan.Task(in.In.Step); !ok || n.Policy == nil {
		return nil, inputf("flow %q has no step %q (it has %s)", f.Name(), in.In.Step, strings.Join(plan.Steps(), ", "))
	}
	base, err := artifacts.Open(ctx, filepath.Join(dir, exportStore), artifacts.Options{})
	if err != nil {
		return nil, err
	}
	if in.Run, err = records.LoadRun(ctx, base, in.In.Flow, in.In.Run); err != nil {
		return nil, err
	}
	if in.Run.Params, err = laterParams(f, in.Run.Params, o.Params); err != nil {
		return nil, &InputError{err}
	}
	in.Run.Plan = plan
	return spin(ctx, f, in, base, o)
}

// setNames are the names of what an exported task set, in order.
func (e *Exported) setNames() []string {
	var names []string
	for name := range e.Changed {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
