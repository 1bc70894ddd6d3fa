package stepwell

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/runs"
)

func (c *command) retryCmd() *cobra.Command {
	return c.verdictCmd(Retry, "Try a paused task again, with all its attempts",
		"retry FLOW/latest/fit         after its code was mended and a worker has it",
		"retry 'FLOW/RUN/fit[3]'       one item of a foreach")
}

func (c *command) skipCmd() *cobra.Command {
	return c.verdictCmd(Skip, "Go on without a paused task, from the state before it",
		"skip FLOW/latest/report")
}

func (c *command) failCmd() *cobra.Command {
	return c.verdictCmd(Fail, "Let a paused task fail; its catch function runs if it has one",
		"fail FLOW/latest/fit")
}

// verdictCmd is a verb that ends the waiting of a task. On the embedded server it then follows the run, because its own
// process may be the only worker.
func (c *command) verdictCmd(v Verdict, short string, examples ...string) *cobra.Command {
	detach := false
	cmd := c.withJSON(&cobra.Command{
		Use: string(v) + " FLOW/RUN/TASK", Short: short,
		Long: short + ".\n\nOn the embedded server it then goes on with the run as its worker, as attach does, because there may be no other.\n" +
			"With --detach it leaves that to the process that runs it: several tasks can be decided one after the other.",
		Example: c.examples(examples...),
		Args:    exactly("a task (Flow/run/step, or Flow/latest/step)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			spec, err := runs.ParsePathspec(args[0])
			if err != nil {
				return &InputError{err}
			}
			if spec.Task == "" {
				return inputf("%q does not name a task (write Flow/run/step, or Flow/run/step[3] in a foreach)", args[0])
			}
			if _, err := c.app.flow(spec.Flow); err != nil {
				return err
			}
			reader, done, err := c.reader(ctx)
			if err != nil {
				return err
			}
			run, err := reader.Find(ctx, spec.Flow+"/"+spec.Run)
			done()
			if err != nil {
				return err
			}
			s, err := c.connect(ctx, run.TaskQueue)
			if err != nil {
				return err
			}
			defer s.close()
			stop := func() {}
			own := !detach && run.Ended.IsZero() && c.mustWork(ctx, s, run.TaskQueue)
			if own { // nobody else might take the verdict in
				if stop, err = c.startWorker(s, run.TaskQueue, c.followedLog()); err != nil {
					return err
				}
			}
			defer func() { stop() }()
			said, err := s.client.Decide(ctx, run.Flow, run.Run.Run, spec.Task, v)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.io.Err, said)
			if !own {
				fmt.Fprintf(c.io.Err, "follow it with: %s attach %s\n", c.name, run.Pathspec())
				return nil
			}
			if run, err = s.client.Runs().Run(ctx, run.Flow, run.Run.Run); err != nil {
				return err
			}
			fmt.Fprintf(c.io.Err, "going on with %s as its worker (--detach leaves that to another process)\n", run.Pathspec())
			return c.follow(ctx, s, run, watching{own: true, tail: s.dev.Shared})
		},
	})
	cmd.Flags().BoolVar(&detach, "detach", false, "tell the run and leave; another process must be its worker")
	return cmd
}
