package stepwell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/runs"
)

// dumpOptions are the flags of dump.
type dumpOptions struct {
	include []string
	maxSize int64
	output  string
}

func (c *command) dumpCmd() *cobra.Command {
	var o dumpOptions
	cmd := &cobra.Command{
		Use: "dump FLOW/RUN/STEP [ARTIFACT]", Short: "Print the artifacts of a finished task, or one of them, or save it to a file",
		Long: `Print the artifacts of a finished task, or one of them.

Structured values are printed as JSON; NaN and infinities, which JSON does not have, as text. One
artifact that is text, bytes or a file is written as it is. --output saves one artifact to
a file, whatever its size; it appears when all of it is there and its digest is right.`,
		Example: c.examples(
			"dump FLOW/latest/STEP                              all artifacts up to 1000 bytes, with their names",
			"dump FLOW/latest/STEP --include a,b --json         two of them, as a JSON document",
			"dump FLOW/latest/STEP ARTIFACT                     one, whatever its size",
			"dump FLOW/latest/STEP ARTIFACT --output model.bin  one, to a file"),
		Args: between(1, "a task (Flow/run/step, or Flow/latest/step)", "an artifact"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTaskSpec(args[0]); err != nil {
				return err
			}
			switch {
			case o.maxSize < 0:
				return inputf("--max-value-size cannot be negative (0 shows names only)")
			case len(args) == 1 && o.output != "":
				return inputf("--output saves one artifact (name it)")
			case len(args) == 2 && (len(o.include) > 0 || cmd.Flags().Changed("max-value-size")):
				return inputf("--include and --max-value-size are for all artifacts, not for one")
			case o.output != "" && c.set.json:
				return inputf("--json prints and --output saves (leave one out)")
			}
			ctx := cmd.Context()
			t, done, err := c.openTask(ctx, args[0])
			if err != nil {
				return err
			}
			defer done()
			if len(args) == 1 {
				return c.dumpAll(ctx, t.task, o)
			}
			return c.dumpOne(ctx, t.task, args[1], o.output)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.include, "include", nil, "only these artifacts, separated by commas")
	f.Int64Var(&o.maxSize, "max-value-size", 1000, "print values up to this many bytes as stored, of others the size; 0 for names only")
	f.StringVarP(&o.output, "output", "o", "", "save the artifact to this file")
	return c.withJSON(cmd)
}

func (c *command) dumpAll(ctx context.Context, task *runs.Task, o dumpOptions) error {
	names := task.Artifacts()
	if task.Record == nil {
		_, err := task.Artifact("") // says which task, and what state it is in
		return err
	}
	var unknown []error
	for _, name := range o.include {
		if _, err := task.Artifact(name); err != nil {
			unknown = append(unknown, err)
		}
	}
	if err := errors.Join(unknown...); err != nil {
		return err
	}
	docs := []valueDocument{}
	for _, name := range names {
		if len(o.include) > 0 && !slices.Contains(o.include, name) {
			continue
		}
		doc, err := value(ctx, task, name, o.maxSize)
		if err != nil {
			return err
		}
		docs = append(docs, doc)
	}
	if c.set.json {
		return c.printJSON(docs)
	}
	s := c.term.out.style
	for _, doc := range docs {
		text := s.faint("(" + doc.Omitted + ")")
		if doc.Omitted == "" {
			b, err := marshalJSON(doc.Value, "  ")
			if err != nil {
				return fmt.Errorf("artifact %q: %w", doc.Name, err)
			}
			text = strings.TrimSuffix(string(b), "\n")
		}
		fmt.Fprintf(c.io.Out, "%s = %s\n", s.bold(clean(doc.Name)), text)
	}
	return nil
}

// value reads an artifact unless it is larger than limit; a negative one is none. Nothing larger is loaded.
func value(ctx context.Context, task *runs.Task, name string, limit int64) (valueDocument, error) {
	e, err := task.Artifact(name)
	if err != nil {
		return valueDocument{}, err
	}
	doc := valueDocument{Name: name, Type: e.Type, Size: e.Size, Digest: e.Digest, File: e.Name}
	switch {
	case e.Name != "":
		doc.Omitted = fmt.Sprintf("file %s, %s", clean(e.Name), byteSize(e.Size))
		return doc, nil
	case limit >= 0 && e.Size > limit:
		doc.Omitted = fmt.Sprintf("%s, %s", clean(e.Type), byteSize(e.Size))
		return doc, nil
	}
	doc.Value, err = runs.LoadJSON(ctx, task, name)
	return doc, err
}

func (c *command) dumpOne(ctx context.Context, task *runs.Task, name, output string) error {
	e, err := task.Artifact(name)
	if err != nil {
		return err
	}
	raw := isRaw(e)
	switch {
	case c.set.json:
		doc, err := value(ctx, task, name, -1)
		if err != nil {
			return err
		}
		return c.printJSON(doc)
	case output != "" && raw:
		return c.save(output, func(w io.Writer) error { return copyArtifact(ctx, task, name, w) })
	case raw && c.term.out.screen:
		return c.dumpToScreen(ctx, task, name, e)
	case raw:
		return copyArtifact(ctx, task, name, c.io.Out)
	}
	v, err := runs.LoadJSON(ctx, task, name)
	if err != nil {
		return err
	}
	b, err := marshalJSON(v, "  ")
	if err != nil {
		return fmt.Errorf("artifact %q: %w", name, err)
	}
	if output != "" {
		return c.save(output, func(w io.Writer) error { _, err := w.Write(b); return err })
	}
	_, err = c.io.Out.Write(b)
	return err
}

// isRaw says that an artifact's stored content is the content itself.
func isRaw(e artifacts.Entry) bool {
	return e.Name != "" || slices.Contains([]string{"string", "bytes", "file"}, e.Codec)
}

// dumpToScreen shows text without what would change the screen, and refuses bytes.
func (c *command) dumpToScreen(ctx context.Context, task *runs.Task, name string, e artifacts.Entry) error {
	if e.Codec != "string" {
		return inputf("artifact %q is %s of bytes, which a terminal cannot show (add --output FILE, or pipe it into a program)", name, byteSize(e.Size))
	}
	_, content, err := task.Content(ctx, name)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.io.Out, cleanText(string(content)))
	return nil
}

func copyArtifact(ctx context.Context, task *runs.Task, name string, w io.Writer) error {
	_, r, err := task.Open(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("artifact %q: %w", name, err)
	}
	return nil
}

// save writes a file that appears, or is replaced, when all of it is written.
func (c *command) save(path string, write func(io.Writer) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		if info.IsDir() {
			return inputf("--output %q is a directory (name a file in it)", path)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // a device or a pipe
		if err != nil {
			return inputf("--output: %w", err)
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".stepwell-*")
	if err != nil {
		return inputf("--output %q: %w (choose a directory that exists and can be written to)", path, err)
	}
	err = write(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	fmt.Fprintln(c.io.Out, path)
	return nil
}
