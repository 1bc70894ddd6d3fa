package stepwell

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/runs"
)

func (c *command) tagCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "tag", Short: "List and change the tags of runs",
		Long: `List and change the tags of runs.

A run has at most 50 tags of 1 to 500 characters. A change is made as a whole or not at all, also when
others change the same run at the same time. The tags that a run has by itself (user:, project:,
project_branch:, code:) cannot be changed; list --tag finds runs by them, too.`,
		Example: c.examples(
			"tag add FLOW/latest best            tag the newest run",
			"tag list FLOW                       the tags of all runs of a flow, with their number",
			"list FLOW --tag best                the runs that have a tag"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return inputf("%q is not a command of %s (see %s --help)", args[0], cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	// Of remove and replace, what is removed need not be there, as the same command may have run before.
	cmd.AddCommand(
		c.withJSON(&cobra.Command{
			Use: "add FLOW/RUN TAG...", Short: "Give a run tags",
			Example: c.examples("tag add FLOW/latest best reviewed"),
			Args:    tagArgs,
			RunE:    func(cmd *cobra.Command, args []string) error { return c.retag(cmd.Context(), args[0], nil, args[1:]) },
		}),
		c.withJSON(&cobra.Command{
			Use: "remove FLOW/RUN TAG...", Short: "Take tags from a run",
			Example: c.examples("tag remove FLOW/latest best reviewed"),
			Args:    tagArgs,
			RunE:    func(cmd *cobra.Command, args []string) error { return c.retag(cmd.Context(), args[0], args[1:], nil) },
		}),
		c.withJSON(&cobra.Command{
			Use: "replace FLOW/RUN OLD NEW", Short: "Take one tag from a run and give it another, at once",
			Example: c.examples("tag replace FLOW/latest candidate best"),
			Args:    exactly("a run (Flow/run, or Flow/latest)", "the old tag", "the new tag"),
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.retag(cmd.Context(), args[0], args[1:2], args[2:])
			},
		}),
		c.withJSON(&cobra.Command{
			Use: "list FLOW[/RUN]", Short: "List the tags of a run, or of all runs of a flow",
			Example: c.examples(
				"tag list FLOW/latest     the tags of the newest run, a line each",
				"tag list FLOW            each tag of the flow's runs, with their number and the newest of them"),
			Args: exactly("a flow or a run (Flow, Flow/run, or Flow/latest)"),
			RunE: func(cmd *cobra.Command, args []string) error { return c.listTags(cmd.Context(), args[0]) },
		}),
	)
	return cmd
}

func tagArgs(cmd *cobra.Command, args []string) error {
	for i, needed := range []string{"a run (Flow/run, or Flow/latest)", "a tag"} {
		if len(args) <= i {
			return inputf("%s needs %s (see %s --help)", cmd.CommandPath(), needed, cmd.CommandPath())
		}
	}
	return nil
}

// tagsDocument is the tags of a run: of tag.
type tagsDocument struct {
	Pathspec string   `json:"pathspec"`
	Tags     []string `json:"tags"`
	// System are those that the run has by itself.
	System []string `json:"system_tags"`
}

func documentTags(run *runs.Run) tagsDocument {
	return tagsDocument{Pathspec: run.Pathspec(), Tags: append([]string{}, run.Tags...), System: append([]string{}, run.SystemTags()...)}
}

func (c *command) retag(ctx context.Context, pathspec string, remove, add []string) error {
	if _, err := runSpec(pathspec); err != nil {
		return err
	}
	reader, done, err := c.reader(ctx)
	if err != nil {
		return err
	}
	defer done()
	run, err := reader.Find(ctx, pathspec)
	if err != nil {
		return err
	}
	switch err := run.ReplaceTags(ctx, remove, add); {
	case errors.Is(err, runs.ErrTags):
		return &InputError{err}
	case err != nil:
		return err
	}
	if c.set.json {
		return c.printJSON(documentTags(run))
	}
	if len(run.Tags) == 0 {
		fmt.Fprintf(c.io.Out, "%s has no tags\n", clean(run.Pathspec()))
	} else {
		fmt.Fprintf(c.io.Out, "%s has the tags %s\n", clean(run.Pathspec()), clean(strings.Join(run.Tags, ", ")))
	}
	return nil
}

func (c *command) listTags(ctx context.Context, pathspec string) error {
	spec, err := runs.ParsePathspec(pathspec)
	switch {
	case err != nil:
		return err
	case spec.Task != "":
		return inputf("%q is not a flow or a run (tags are of runs)", pathspec)
	}
	reader, done, err := c.reader(ctx)
	if err != nil {
		return err
	}
	defer done()
	if spec.Run == "" {
		return c.countTags(ctx, reader, spec.Flow)
	}
	run, err := reader.Find(ctx, pathspec)
	if err != nil {
		return err
	}
	if c.set.json {
		return c.printJSON(documentTags(run))
	}
	for _, tag := range run.Tags {
		fmt.Fprintln(c.io.Out, clean(tag))
	}
	for _, tag := range run.SystemTags() {
		fmt.Fprintln(c.io.Out, c.term.out.style.faint(clean(tag)))
	}
	return nil
}

// tagDocument is a tag of a flow's runs: of tag list.
type tagDocument struct {
	Tag string `json:"tag"`
	// System says that runs have it by themselves.
	System bool `json:"system,omitempty"`
	Runs   int  `json:"runs"`
	// Latest is the newest of them.
	Latest  string    `json:"latest"`
	Started time.Time `json:"started"`
}

// countTags lists the tags of a flow's runs: those that people gave first, of these the most frequent ones.
func (c *command) countTags(ctx context.Context, reader *runs.Reader, flowName string) error {
	found := map[string]*tagDocument{}
	for run, err := range reader.Runs(ctx, flowName) {
		if skippable(err) {
			fmt.Fprintln(c.io.Err, "warning:", clean(err.Error()))
			continue
		}
		if err != nil {
			return err
		}
		for i, tag := range run.AllTags() {
			if found[tag] == nil {
				found[tag] = &tagDocument{Tag: tag, System: i >= len(run.Tags), Latest: run.Run.Run, Started: run.Started}
			}
			found[tag].Runs++
		}
	}
	docs := make([]tagDocument, 0, len(found))
	for _, doc := range found {
		docs = append(docs, *doc)
	}
	system := map[bool]int{true: 1}
	slices.SortFunc(docs, func(a, b tagDocument) int {
		return cmp.Or(cmp.Compare(system[a.System], system[b.System]), cmp.Compare(b.Runs, a.Runs), strings.Compare(a.Tag, b.Tag))
	})
	if c.set.json {
		return c.printJSON(docs)
	}
	s := c.term.out.style
	t := newTable(c.io.Out)
	t.row(s.faint("TAG"), s.faint("RUNS"), s.faint("LATEST"), s.faint("STARTED"))
	for _, doc := range docs {
		name := clean(doc.Tag)
		if doc.System {
			name = s.faint(name)
		}
		t.row(name, fmt.Sprint(doc.Runs), clean(doc.Latest), date(doc.Started))
	}
	t.flush()
	return nil
}
