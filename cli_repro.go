package stepwell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/runs"
)

// reproOptions are the flags of repro.
type reproOptions struct {
	out, flow string
	export    ExportOptions
}

func (c *command) reproCmd() *cobra.Command {
	var o reproOptions
	cmd := c.withJSON(&cobra.Command{
		Use: "repro FLOW/RUN/STEP", Short: "Write a Go test that runs one task on exactly its inputs and fails as it did",
		Long: `Write a Go test that runs one task of a run on exactly what it started from, and fails, or
passes, in the way that the task did. Run this in the module of the flow.

The test calls the flow's constructor: a function without parameters, or a variable, that is
looked for in the module's source by the flow's name. --flow names it where that finds none, or
several. If it is exported, the test gets a folder of its own, else it joins the package.

What the task started from is written beside the test: parameters, artifacts, the item of a
foreach, the inputs of a join. What looks like a secret is refused without --secrets. Look at the
files before you share them: values of your own may be secret in ways that nobody can tell.
Nothing is overwritten.`,
		Example: c.examples(
			"repro FLOW/latest/STEP                             a test in ./repro_flow_step",
			"repro 'FLOW/latest/STEP[3]' --out ./tests/item3    an item, with its own folder",
			"repro FLOW/latest/STEP --flow 'example.com/me/flows.Flow()'",
			"repro FLOW/latest/STEP --flow 'Flow()' --out .     the flow is made in the package of this folder"),
		Args: exactly("a task (Flow/run/step, or Flow/latest/step)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.repro(cmd.Context(), args[0], o)
		},
	})
	f := cmd.Flags()
	f.StringVarP(&o.out, "out", "o", "", "the folder of the test (default ./repro_<flow>_<step>, or that of the flow's package if the test must be in it)")
	f.StringVar(&o.flow, "flow", "", "the expression that is the flow, behind its package's path (default: looked for in the module)")
	f.BoolVar(&o.export.Secrets, "secrets", false, "also write what looks like a secret")
	f.Int64Var(&o.export.MaxBytes, "max-bytes", maxExportBytes, "the most that the artifacts may have together")
	return cmd
}

// reproDocument is a test that was written: of repro.
type reproDocument struct {
	Pathspec string `json:"pathspec"`
	// Test is the file of the test, Data the folder with what the task started from.
	Test string `json:"test"`
	Data string `json:"data"`
	// Flow is the expression that the test uses.
	Flow string `json:"flow"`
	// Bytes is the size of the artifacts.
	Bytes int64 `json:"bytes"`
	// Secrets are the names of what looks like a secret and was written.
	Secrets []string `json:"secrets,omitempty"`
	// Expects says what the test asserts.
	Expects string `json:"expects"`
}

func (c *command) repro(ctx context.Context, spec string, o reproOptions) error {
	if err := checkTaskSpec(spec); err != nil {
		return err
	}
	if o.export.MaxBytes < 1 {
		return inputf("--max-bytes is %d (use a positive number)", o.export.MaxBytes)
	}
	p, err := runs.ParsePathspec(spec)
	if err != nil {
		return err
	}
	f, err := c.app.flow(p.Flow)
	if err != nil {
		return err
	}
	place, err := c.reproPlace(p, o)
	if err != nil {
		return err
	}
	t, done, err := c.openTask(ctx, spec)
	if err != nil {
		return err
	}
	defer done()
	_, err = os.Stat(place.dir)
	own := errors.Is(err, fs.ErrNotExist)
	exported, err := ExportTask(ctx, f, t.task, place.data(), o.export)
	if err == nil {
		err = place.write(exported, c.app.Classify != nil)
	}
	if err != nil {
		if own { // nothing but what was made here
			_ = os.RemoveAll(place.dir)
		}
		return err
	}
	doc := reproDocument{
		Pathspec: exported.Pathspec, Test: place.test(), Data: place.data(), Flow: place.expr(), Bytes: exported.Bytes, Secrets: exported.Secrets, Expects: expects(exported),
	}
	if c.set.json {
		return c.printJSON(doc)
	}
	fmt.Fprintf(c.io.Out, "%s\n", clean(near(doc.Test)))
	fmt.Fprintf(c.io.Err, "it expects that %s\n", clean(doc.Expects))
	fmt.Fprintf(c.io.Err, "its input is in %s, %s of artifacts: look at it before you share it\n", clean(near(doc.Data)), byteSize(doc.Bytes))
	if len(doc.Secrets) > 0 {
		fmt.Fprintf(c.io.Err, "%s %s looks like a secret, and was written\n", c.term.err.style.warn("warning:"), clean(strings.Join(doc.Secrets, ", ")))
	}
	fmt.Fprintf(c.io.Err, "run it: go test -run %s %s\n", place.testName(), quoteWord(clean(near(place.dir))))
	return nil
}

// reproPlace is where a test goes.
type reproPlace struct {
	source flowSource
	// dir is the folder of the test, name what its files begin with. Inside says that it is in the flow's own package.
	dir, name string
	inside    bool
	task      string
}

// reproPlace finds the flow's source and chooses where the test goes.
func (c *command) reproPlace(p runs.Pathspec, o reproOptions) (reproPlace, error) {
	out := reproPlace{task: p.Task, name: "repro_" + fileWord(p.Flow) + "_" + fileWord(p.Task)}
	here, err := os.Getwd()
	if err != nil {
		return out, err
	}
	out.dir = filepath.Join(here, out.name)
	if o.out != "" {
		if out.dir, err = filepath.Abs(o.out); err != nil {
			return out, err
		}
	}
	root, name, err := module(here)
	if err != nil {
		return out, err
	}
	if o.flow != "" {
		dir := here
		if o.out != "" {
			dir = out.dir
		}
		out.source, err = parseFlow(o.flow, dir)
	} else {
		var found []flowSource
		if found, err = findFlows(root, name, p.Flow); err == nil {
			out.source, err = chooseFlow(found, p.Flow)
		}
	}
	if err != nil {
		return out, err
	}
	out.inside = out.source.path == "" || !out.source.exported() && o.flow == ""
	if out.inside {
		if o.out != "" && out.dir != out.source.dir {
			return out, inputf("flow %q can only be used in its own package, in %s (leave --out out, or export it)", p.Flow, out.source.dir)
		}
		out.dir = out.source.dir
	}
	if rel, err := filepath.Rel(root, out.dir); err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return out, inputf("--out %q is outside of module %s in %s (choose a folder in it)", o.out, name, root)
	}
	for _, path := range []string{out.test(), out.data()} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return out, inputf("%q exists (choose another folder with --out, or remove it)", path)
		}
	}
	return out, nil
}

func (p reproPlace) test() string     { return filepath.Join(p.dir, p.name+"_test.go") }
func (p reproPlace) data() string     { return filepath.Join(p.dir, "testdata", p.name) }
func (p reproPlace) testName() string { return "TestRepro" + goWord(p.task) }

// near is a path as seen from the working directory, if it is below it.
func near(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(here, path)
	switch {
	case err != nil || strings.HasPrefix(rel, ".."):
		return path
	case rel == ".":
		return rel
	}
	return "." + string(filepath.Separator) + rel
}

// alias is how the test calls the flow's package.
func (p reproPlace) alias() string {
	word := fileWord(p.source.pkg)
	if word == "" || word[0] >= '0' && word[0] <= '9' || word == "flowtest" || word == "testing" {
		return "flows_" + word
	}
	return word
}

// expr is the flow as the test writes it.
func (p reproPlace) expr() string {
	if p.inside {
		return p.source.expr
	}
	return p.alias() + "." + p.source.expr
}

// expects says what the test asserts.
func expects(e *Exported) string {
	switch {
	case e.reproduces():
		return fmt.Sprintf("the step fails as in the run, with class %s: %s", e.Failure.Class, shorten(e.Failure.Message, 200))
	case e.Changed != nil:
		return "the step completes and sets what it set in the run"
	}
	return "the step completes"
}

// reproduces says that the failure came from the step, and not from what ran it.
func (e *Exported) reproduces() bool {
	return e.Failure != nil && e.Failure.Class != policies.Lost && e.Failure.Class != policies.Cancelled
}

var reproTest = template.Must(template.New("repro").Parse(`// This test was written by "repro {{.Pathspec}}". It is yours: change it as you like.
package {{.Package}}

import (
	"testing"

	"github.com/stepwell-flows/stepwell/flowtest"
{{- if .Import}}

	{{.Import}}
{{- end}}
)

// {{.Name}} runs task {{.Task}} of run {{.Run}} once more, with the code of today, on exactly what it
// started from: {{.Data}}.
//
{{- if .Failure}}
// Attempt {{.Attempt}} failed there, with class {{.Class}}:
//
{{- range .Lines}}
//	{{.}}
{{- end}}
//
// The test passes as long as the step fails in that way. When it is mended, take RequireSuccess instead.
{{- else}}
// In the run it ended well there{{if .Why}}: {{.Why}}{{end}}.
{{- end}}
{{- range .Notes}}
//
// {{.}}
{{- end}}
func {{.Name}}(t *testing.T) {
	got := flowtest.Repro(t, {{.Expr}}, {{printf "%q" .Data}}, flowtest.Options{})
{{- if .Failure}}
	got.RequireFailure(t, {{printf "%q" .Class}}, {{printf "%q" .Message}})
	// got.RequireSuccess(t)
{{- else if .Set}}
	got.RequireSet(t, map[string]string{
{{- range .Set}}
		{{printf "%q" .Name}}: {{printf "%q" .Digest}},
{{- end}}
	})
{{- else}}
	got.RequireSuccess(t)
{{- end}}
}
`))

// write writes the test.
func (p reproPlace) write(e *Exported, classifies bool) error {
	type set struct{ Name, Digest string }
	data := struct {
		Pathspec, Package, Import, Name, Task, Run, Data, Expr, Class, Message, Why string
		Attempt                                                                     int
		Failure                                                                     bool
		Lines, Notes                                                                []string
		Set                                                                         []set
	}{
		Pathspec: clean(e.Pathspec), Package: p.source.pkg, Name: p.testName(), Task: clean(p.task), Run: clean(e.In.Flow + "/" + e.In.Run),
		Data: "testdata/" + p.name, Expr: p.expr(), Attempt: max(e.Attempt, 1),
	}
	if !p.inside {
		if data.Package = packageIn(p.dir); data.Package == "" {
			data.Package = fileWord(filepath.Base(p.dir))
			if data.Package == "" || data.Package[0] >= '0' && data.Package[0] <= '9' {
				data.Package = "repro_" + data.Package
			}
		}
		data.Import = fmt.Sprintf("%q", p.source.path)
		if p.alias() != p.source.pkg || !strings.HasSuffix(p.source.path, "/"+p.source.pkg) && p.source.path != p.source.pkg {
			data.Import = p.alias() + " " + data.Import
		}
	}
	switch {
	case e.reproduces():
		data.Failure, data.Class, data.Message = true, string(e.Failure.Class), e.Failure.Message
		for line := range strings.SplitSeq(strings.TrimSpace(e.Failure.Message), "\n") {
			data.Lines = append(data.Lines, clean(line))
		}
	case e.Failure != nil:
		data.Why = fmt.Sprintf("nothing is known to be wrong with the step itself, its class is %s", clean(string(e.Failure.Class)))
	}
	for _, name := range e.setNames() {
		data.Set = append(data.Set, set{name, e.Changed[name].String()})
	}
	if classifies {
		data.Notes = append(data.Notes, "The program has a rule of its own for classes: give it to the test as flowtest.Options{Classify: …}.")
	}
	if len(e.Secrets) > 0 {
		data.Notes = append(data.Notes, "The input holds what looks like a secret: "+clean(strings.Join(e.Secrets, ", "))+".")
	}
	var b bytes.Buffer
	if err := reproTest.Execute(&b, data); err != nil {
		return err
	}
	code, err := format.Source(b.Bytes())
	if err != nil {
		return fmt.Errorf("the test cannot be formatted: %w", err)
	}
	file, err := os.OpenFile(p.test(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(code)
	return errors.Join(err, file.Close())
}
