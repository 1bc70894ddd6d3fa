package conformance

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// Metaflow's tags, as far as there are some: they are given at the start and do not change.
func TestTags(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := flow.New("Tags", flow.Step("start", func(ctx context.Context, s *state) error {
			s.Trail = flow.Current(ctx).Tags
			return nil
		}))
		tags := []string{"nightly", "größer als 你好", strings.Repeat("x", 255)}
		run := w.run(t, f, options{tags: tags})
		require.Equal(t, tags, run.Tags)
		require.Equal(t, tags, final[state](t, run, f).Trail)
	})
}

func TestBadTags(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	f := flow.New("BadTags", flow.Step("start", func(context.Context, *state) error { return nil }))
	for _, tag := range []string{"", strings.Repeat("x", 501), "two\nlines"} {
		_, err := d.client(t, f).Start(t.Context(), f, stepwell.StartOptions{Tags: []string{"good", tag}})
		require.ErrorIs(t, err, stepwell.ErrInput, "%q", tag)
		require.ErrorContains(t, err, "is not allowed")
	}
	_, err := d.client(t, f).Runs().IDs(t.Context(), f.Name())
	require.ErrorIs(t, err, runs.ErrNotFound, "a refused run writes nothing")
}

// badComponent panics when it is shown.
type badComponent struct{}

func (badComponent) CardHTML() template.HTML { panic("no picture") }

// Metaflow's cards: whatever goes wrong with a card, the run is fine. Two cards of a step are both there.
func TestCards(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := flow.New("Cards",
			flow.Step("raises", func(ctx context.Context, _ *state) error { flow.Card(ctx).Append(cards.Markdown("unseen")); return nil },
				flow.CardSpec{Name: "error", Render: func(io.Writer, *flow.CardData) error { return errors.New("no card") }},
				flow.CardSpec{Name: "panic", Render: func(io.Writer, *flow.CardData) error { panic("no card") }},
				cards.Default()),
			flow.Step("component", func(ctx context.Context, _ *state) error {
				flow.Card(ctx).Append(badComponent{}, cards.Markdown("what came after"))
				return nil
			}, cards.Default()),
			p0("plain"),
			flow.Foreach("items", over("abc"), bindX,
				flow.Step("item", func(ctx context.Context, s *state) error {
					flow.Card(ctx).Append(cards.Markdown("card of " + s.X))
					return nil
				}, cards.Default()),
			).Join("join", func(context.Context, *state, flow.Inputs[state]) error { return nil }),
		)
		run := completed(t, w.run(t, f, options{}))
		names, err := task(t, run, "raises").Cards(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"default", "error", "panic"}, names)
		for _, failed := range []string{"error", "panic"} {
			page, err := task(t, run, "raises").Card(t.Context(), failed)
			require.NoError(t, err)
			require.Contains(t, string(page), "no card", "a card that failed says so")
		}
		page, err := task(t, run, "component").Card(t.Context(), "default")
		require.NoError(t, err)
		require.Contains(t, string(page), "what came after")
		_, err = task(t, run, "plain").Card(t.Context(), "default")
		require.ErrorIs(t, err, runs.ErrNotFound)
		for i, x := range letters("abc") {
			page, err := task(t, run, fmt.Sprintf("item[%d]", i)).Card(t.Context(), "default")
			require.NoError(t, err)
			require.Contains(t, string(page), "card of "+x)
		}
	})
}

func p0(name string) flow.Node[state] { return (&plot{}).step(name, nil) }

// runtime-dag: the records say what each task started from.
func TestParents(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		f := everythingNested().build(&plot{})
		run := completed(t, w.run(t, f, options{}))
		parents := func(name string) []string {
			t.Helper()
			var all []string
			for _, ref := range record(t, run, name).Parents {
				all = append(all, flow.TaskName(ref.Step, ref.Index))
				require.Equal(t, run.Run.Run, ref.Run)
			}
			return all
		}
		for task, want := range map[string][]string{
			"start":      nil,
			"turn[0]":    {"start"},
			"turn[1]":    {"collect[0]"},
			"rest[1]":    {"turn[1]"},
			"turn[2]":    {"rest[1]"},
			"left[2,0]":  {"turn[2]"},
			"both[2,0]":  {"turn[2]", "left[2,0]", "right[2,0]"},
			"collect[2]": {"turn[2]"},
			"end":        {"collect[2]"},
		} {
			require.Equal(t, want, parents(task), task)
		}
	})
}

// typed is the state of the cases of parameters.
type typed struct {
	Alpha float64        `param:"alpha" default:"0.5"`
	Name  string         `param:"name" required:"true"`
	Flag  bool           `param:"flag"`
	Extra map[string]int `param:"extra"`
	Copy  string
}

// params: the command line goes before the environment and that before the default; what is wrong is told at once.
func TestParams(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	f := flow.New("Params", flow.Step("start", func(_ context.Context, s *typed) error {
		s.Copy = fmt.Sprintf("%v %s %v %v", s.Alpha, s.Name, s.Flag, s.Extra)
		return nil
	}))
	env := map[string]string{"STEPWELL_RUN_ALPHA": "2.5", "STEPWELL_RUN_NAME": "env"}
	start := func(env map[string]string, args ...string) (int, string) {
		return d.cli(t, f, env, append(append([]string{"run", "Params"}, args...), "--task-queue", d.queue+"-0")...)
	}
	copied := func(run string) string {
		t.Helper()
		r, err := d.client(t, f).Runs().Run(t.Context(), "Params", run)
		require.NoError(t, err)
		return final[typed](t, r, f).Copy
	}
	code, out := start(env, "--name", "flag", "--flag", "--extra", `{"a":1}`, "--run-id", "one-"+d.queue)
	require.Equal(t, stepwell.ExitOK, code, out)
	require.Equal(t, "2.5 flag true map[a:1]", copied("one-"+d.queue))
	code, out = start(nil, "--name=x", "--run-id", "two-"+d.queue)
	require.Equal(t, stepwell.ExitOK, code, out)
	require.Equal(t, "0.5 x false map[]", copied("two-"+d.queue))
	code, out = start(nil, "--alpha", "much", "--extra", "{")
	require.Equal(t, stepwell.ExitInput, code, out)
	for _, want := range []string{`parameter "name" is required`, `"much" is not a number`, `"extra"`} {
		require.Contains(t, out, want)
	}

	changes := flow.New("Immutable", flow.Step("start", func(_ context.Context, s *typed) error { s.Extra["b"] = 2; return nil }, fixed(3)))
	run, err := d.client(t, changes).Start(t.Context(), changes, stepwell.StartOptions{Params: map[string]string{"name": "x", "extra": `{"a":1}`}})
	require.NoError(t, err)
	run = failed(t, d.wait(t, changes, run))
	require.Contains(t, run.Failure.Message, `parameter "extra"`, "Metaflow loses what is changed in place")
	require.Len(t, attempts(t, run, "start"), 1)
}

// What a run did can be read from the store alone.
func TestReadWithoutServer(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		g := nestedForeach()
		f := g.build(&plot{})
		run := completed(t, w.run(t, f, options{}))
		var store *artifacts.Store
		switch w := w.(type) {
		case *simulation:
			store = w.store
		case *deployment:
			store = w.store
		}
		read, err := runs.New(store, nil).Run(t.Context(), run.Flow, run.Run.Run)
		require.NoError(t, err)
		require.Equal(t, records.StatusCompleted, read.Status)
		g.undisturbed(t, read, f)
		all, err := read.Steps(t.Context())
		require.NoError(t, err)
		tasks := map[string]int{}
		for _, step := range all {
			for k, err := range step.Tasks(t.Context()) {
				require.NoError(t, err)
				require.Equal(t, runs.Completed, k.State)
				tasks[k.Name()]++
			}
		}
		require.Equal(t, times(1, g.trail), tasks)
	})
}

// docs/conformance.md names every test, and no other.
func TestDocument(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/conformance.md")
	require.NoError(t, err)
	named := map[string]bool{"TestMain": true, "TestDocument": true}
	for _, name := range regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(string(doc), -1) {
		named[name[1]] = true
	}
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	written := map[string]bool{}
	for _, file := range files {
		code, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`(?m)^func (Test[A-Za-z]+)\(`).FindAllStringSubmatch(string(code), -1) {
			written[name[1]] = true
		}
	}
	require.Equal(t, written, named)
}
