package flowtest

import (
	"slices"
	"testing"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// Reproduced is a task of a run that was run once more in a test.
type Reproduced struct {
	*stepwell.Spun
}

// Repro runs a task of a run once more, on exactly what it started from, which "starter repro" or [stepwell.ExportTask] has written to
// dir. The step is called once, with the code of f: no retries, no catch function. Of the options, Params change parameters, and Classify
// is the program's rule for the classes of errors. An isolated step runs in the process of the test, without its limits.
//
// What cannot be read fails the test at once. That the step fails does not.
func Repro(t testing.TB, f *flow.Flow, dir string, o Options) *Reproduced {
	t.Helper()
	spun, err := stepwell.SpinExported(t.Context(), f, dir, stepwell.SpinOptions{Params: o.Params, Classify: o.Classify, InProcess: true})
	if err != nil {
		t.Fatalf("reproduce the task in %q: %v", dir, err)
	}
	t.Cleanup(spun.Close)
	return &Reproduced{spun}
}

// RequireFailure fails the test unless the step failed with that class and message. Ports of this machine and addresses in memory may
// differ.
func (r *Reproduced) RequireFailure(t testing.TB, class policies.Class, message string) {
	t.Helper()
	switch f := r.Failure; {
	case f == nil:
		t.Fatalf("the step completed; it failed with class %s in the run: %s", class, message)
	case !r.FailedLike(class, message):
		t.Fatalf("the step failed in another way than in the run\n got: %s: %s\nwant: %s: %s\n%s", f.Class, f.Message, class, message, f.Stack)
	}
}

// RequireSuccess fails the test unless the step completed.
func (r *Reproduced) RequireSuccess(t testing.TB) {
	t.Helper()
	if f := r.Failure; f != nil {
		t.Fatalf("the step failed with class %s: %s\n%s", f.Class, f.Message, f.Stack)
	}
}

// RequireSet fails the test unless the step completed and set exactly these artifacts, given by their digests.
func (r *Reproduced) RequireSet(t testing.TB, digests map[string]string) {
	t.Helper()
	r.RequireSuccess(t)
	for name, want := range digests {
		e, ok := r.Artifacts[name]
		switch {
		case !ok:
			t.Errorf("artifact %q is not there", name)
		case e.Digest.String() != want:
			t.Errorf("artifact %q has digest %s, in the run %s", name, e.Digest, want)
		}
	}
	for _, name := range r.Changed {
		if _, ok := digests[name]; !ok {
			t.Errorf("artifact %q was set; in the run it was not", name)
		}
	}
}

// Load decodes an artifact of the state after the step into the value that into points to.
func (r *Reproduced) Load(t testing.TB, name string, into any) {
	t.Helper()
	r.RequireSuccess(t)
	e, ok := r.Artifacts[name]
	if !ok {
		t.Fatalf("artifact %q is not there (the step set %v)", name, slices.Sorted(slices.Values(r.Changed)))
	}
	content, err := r.Store.Content(t.Context(), e)
	if err == nil {
		err = artifacts.Decode(e, content, into)
	}
	if err != nil {
		t.Fatalf("artifact %q: %v", name, err)
	}
}
