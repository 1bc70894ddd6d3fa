package stepwell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// embeddedQueue begins the task queue of a run whose worker is the process that started it.
const embeddedQueue = "embedded-"

// startFlags are the flags of run and resume.
type startFlags struct {
	tags      []string
	runID     string
	taskQueue string
	detach    bool
	// maxParallel bounds the tasks that run at the same time.
	maxParallel int
}

func (s *startFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&s.tags, "tag", nil, "tag the run (may be given several times)")
	f.StringVar(&s.runID, "run-id", "", "id of the new run (default one that begins with the time)")
	f.StringVar(&s.taskQueue, "task-queue", "", "task queue of the workers (default "+DefaultTaskQueue+"; embedded, one of this process's own)")
	f.IntVar(&s.maxParallel, "max-parallel", 0, "run at most this many tasks at the same time (default no limit but those of the workers)")
	f.BoolVar(&s.detach, "detach", false, "start the run, print its name and leave")
}

// projectFlags are the flags of run alone: a resumed run is of its origin's project.
type projectFlags struct {
	project, branch string
	production      bool
}

func (p *projectFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.project, "project", "", "project that the run belongs to, on a branch of your own unless another one is chosen")
	f.StringVar(&p.branch, "branch", "", "run on the project's branch test.BRANCH; with --production, prod.BRANCH")
	f.BoolVar(&p.production, "production", false, "run on the project's branch prod")
}

func (c *command) runCmd() *cobra.Command {
	run := &cobra.Command{
		Use: "run FLOW", Short: "Start a run and follow it",
		Long: `Start a run and follow it to its end.

A flow's parameters are flags: see run FLOW --help. What is given neither as a flag nor as an environment
variable has its default. Without a configured Temporal server this process runs the steps; if it is
interrupted or killed, attach carries on.`,
		Example: c.examples(
			"run FLOW --help                 the parameters of a flow",
			"run FLOW --tag nightly          run it, with a tag to find it by",
			"run FLOW --detach               start it on a server, and leave",
			"run FLOW --json > run.json      progress on standard error, the finished run as JSON"),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return inputf("run needs a flow (this program has %s)", strings.Join(c.app.names(), ", "))
			}
			_, err := c.app.flow(args[0])
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		// Without this, the flags of a flow that does not exist would be told before that.
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
	}
	for _, f := range c.app.Flows {
		var start startFlags
		var project projectFlags
		sub := &cobra.Command{Use: f.Name(), Short: fmt.Sprintf("Run %s: %s", f.Name(), shorten(strings.Join(f.Plan().Steps(), ", "), 60)), Args: exactly()}
		start.add(sub)
		c.withLogFormat(sub)
		project.add(sub)
		c.withJSON(sub)
		var given map[string]string
		if f.Check() == nil {
			given = paramFlags(sub.Flags(), f)
		}
		sub.RunE = func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context(), f, start, project, given) }
		run.AddCommand(sub)
	}
	return run
}

func (c *command) run(ctx context.Context, f *flow.Flow, start startFlags, project projectFlags, given map[string]string) error {
	if err := checkFlows(c.app.Flows); err != nil {
		return err
	}
	o := StartOptions{
		Params: given, Env: c.io.Env, Tags: start.tags, RunID: start.runID, MaxParallel: start.maxParallel,
		Project: project.project, Branch: project.branch, Production: project.production,
	}
	// Everything that can be refused is, before a server or a store is touched.
	_, err := f.ResolveParams(given, c.io.Env)
	if o.RunID != "" {
		err = errors.Join(err, records.CheckRunID(o.RunID))
	}
	if err = errors.Join(err, checkTags(o.Tags), checkProject(o), checkParallel(o.MaxParallel)); err != nil {
		return &InputError{err}
	}
	return c.launch(ctx, start, func(s *session) (*runs.Run, error) { return s.client.Start(ctx, f, o) })
}

func (c *command) resumeCmd() *cobra.Command {
	var (
		start  startFlags
		o      ResumeOptions
		params []string
		plan   bool
	)
	cmd := &cobra.Command{
		Use: "resume FLOW[/RUN]", Short: "Start a new run from the finished steps of a failed one",
		Long: `Start a new run that takes over the finished steps of another and runs the rest.

The origin is the flow's newest run that did not succeed, unless a run is named. With --step, that
step and all that follow run again; only then may parameters change. --plan shows what would happen and
a token; a resume with that --token is refused if anything changed since.`,
		Example: c.examples(
			"resume FLOW                               the newest run that did not succeed",
			"resume FLOW/RUN --plan                    what would be reused, what would run, and why",
			"resume FLOW/RUN --step STEP --param x=1   that step and all that follow again, with another parameter"),
		Args: exactly("a flow or Flow/run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			spec, err := runs.ParsePathspec(args[0])
			if err != nil {
				return err
			}
			switch {
			case spec.Task != "":
				step, _, err := flow.ParseTaskName(spec.Task)
				if err != nil {
					return inputf("%q: %w", args[0], err)
				}
				return inputf("%q names a task (write Flow or Flow/run, and --step %s to run again from there)", args[0], step)
			case spec.Run != "" && o.Origin != "" && spec.Run != o.Origin:
				return inputf("two origins are given, %q and --origin %q (leave one out)", spec.Run, o.Origin)
			case spec.Run != "":
				o.Origin = spec.Run
			}
			f, err := c.app.flow(spec.Flow)
			if err != nil {
				return err
			}
			if err := checkFlows(c.app.Flows); err != nil {
				return err
			}
			if o.Params, err = keyValues(params); err != nil {
				return err
			}
			o.Tags, o.RunID, o.MaxParallel = start.tags, start.runID, start.maxParallel
			if o.Origin == runs.LatestRun {
				return inputf("resume %s/latest is not clear (leave /latest out for the newest run that did not succeed, or name the run)", spec.Flow)
			}
			if plan {
				return c.showPlan(ctx, f, o)
			}
			// A resume that would be refused is, before a server is started for it.
			reader, done, err := c.reader(ctx)
			if err != nil {
				return err
			}
			_, err = c.offline(reader).planResume(ctx, f, o, false)
			done()
			if err != nil {
				return err
			}
			return c.launch(ctx, start, func(s *session) (*runs.Run, error) {
				run, p, err := s.client.Resume(ctx, f, o)
				if err == nil {
					c.printPlan(c.progress(), p)
				}
				return run, err
			})
		},
	}
	start.add(cmd)
	c.withLogFormat(cmd)
	f := cmd.Flags()
	f.StringVar(&o.Origin, "origin", "", "id of the run to resume")
	f.StringVar(&o.Step, "step", "", "run this step and all that follow again")
	f.StringArrayVar(&params, "param", nil, "change a parameter, name=value (needs --step)")
	f.BoolVar(&plan, "plan", false, "show what would be reused and what would run, and why; start nothing")
	f.StringVar(&o.Token, "token", "", "refuse if the plan is not the one with this token")
	return c.withJSON(cmd)
}

// offline is a client that can plan but not start.
func (c *command) offline(r *runs.Reader) *Client { return &Client{store: r.Store(), reader: r} }

func (c *command) showPlan(ctx context.Context, f *flow.Flow, o ResumeOptions) error {
	reader, done, err := c.reader(ctx)
	if err != nil {
		return err
	}
	defer done()
	p, err := c.offline(reader).PlanResume(ctx, f, o)
	if err != nil {
		return err
	}
	if c.set.json {
		return errors.Join(c.printJSON(p), p.agreed(o.Token))
	}
	c.printPlan(c.io.Out, p)
	fmt.Fprintf(c.io.Out, "token %s\n", p.Token)
	return p.agreed(o.Token)
}

func (c *command) printPlan(w io.Writer, p *ResumePlan) {
	fmt.Fprintf(w, "resume %s/%s\n", p.Flow, p.Origin)
	t := newTable(w)
	for _, s := range p.Steps {
		what := "run"
		switch {
		case s.Reuse:
			what = "reuse"
		case s.Tasks > 0:
			what = "both"
		}
		t.row("  "+what, clean(s.Step), clean(s.Why))
	}
	t.flush()
	if p.Note != "" {
		fmt.Fprintln(w, clean(p.Note))
	}
}

// launch connects, starts what begin starts, and follows it. Embedded, this process is the worker.
func (c *command) launch(ctx context.Context, start startFlags, begin func(*session) (*runs.Run, error)) error {
	taskQueue := start.taskQueue
	_, configured, err := c.temporalOptions()
	if err != nil {
		return err
	}
	own := !configured && !start.detach && taskQueue == ""
	if own {
		// A queue of its own: another program on the same embedded server may have other code under
		// the same names, and ends when its own run does.
		taskQueue = embeddedQueue + runs.NewID(time.Now())
	}
	s, err := c.connect(ctx, taskQueue)
	if err != nil {
		return err
	}
	defer s.close()
	if own {
		stop, err := c.startWorker(s, taskQueue, c.followedLog())
		if err != nil {
			return err
		}
		defer stop()
	}
	run, err := begin(s)
	if err != nil {
		return err
	}
	if !own {
		c.warnUnpolled(ctx, s, run.TaskQueue)
	}
	if start.detach {
		if c.set.json {
			doc, err := documentRun(ctx, run, s.store)
			if err != nil {
				return err
			}
			return c.printJSON(doc)
		}
		fmt.Fprintln(c.io.Out, run.Pathspec())
		return nil
	}
	return c.follow(ctx, s, run, watching{own: own, tail: !own})
}

// mustWork says whether this process has to be the worker of a run on the embedded server: when its queue is that of a
// single run, because the process that it belonged to may be dead and the server not know it yet, or when nobody polls.
func (c *command) mustWork(ctx context.Context, s *session, taskQueue string) bool {
	if s.dev == nil {
		return false
	}
	if strings.HasPrefix(taskQueue, embeddedQueue) {
		return true
	}
	polled, err := s.client.Polled(ctx, taskQueue)
	return err == nil && !polled
}

func (c *command) attachCmd() *cobra.Command {
	cmd := c.withJSON(&cobra.Command{
		Use: "attach FLOW/RUN", Short: "Follow a run; embedded, go on with one whose process ended",
		Example: c.examples(
			"attach FLOW/latest          follow the newest run to its end; exits as run does",
			"attach FLOW/RUN --json      and print the finished run as JSON"),
		Args: exactly("a run (Flow/run, or Flow/latest)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			spec, err := runSpec(args[0])
			if err != nil {
				return err
			}
			if _, err := c.app.flow(spec.Flow); err != nil {
				return err
			}
			reader, done, err := c.reader(ctx)
			if err != nil {
				return err
			}
			run, err := reader.Find(ctx, args[0])
			done()
			if err != nil {
				return err
			}
			s, err := c.connect(ctx, run.TaskQueue)
			if err != nil {
				return err
			}
			defer s.close()
			if run, err = s.client.Runs().Run(ctx, run.Flow, run.Run.Run); err != nil {
				return err
			}
			return c.carryOn(ctx, s, run)
		},
	})
	c.withLogFormat(cmd)
	return cmd
}

// carryOn follows a run that was started before, and runs its steps if nobody else does.
func (c *command) carryOn(ctx context.Context, s *session, run *runs.Run) error {
	own := run.Ended.IsZero() && c.mustWork(ctx, s, run.TaskQueue)
	w := watching{own: own, tail: true}
	if own {
		log := c.followedLog()
		if s.dev.Shared { // the process that started the run may be alive, and run steps too
			log = nil
		} else {
			w.tail = false
		}
		stop, err := c.startWorker(s, run.TaskQueue, log)
		if err != nil {
			return err
		}
		defer stop()
	} else if run.Ended.IsZero() {
		c.warnUnpolled(ctx, s, run.TaskQueue)
	}
	return c.follow(ctx, s, run, w)
}

func (c *command) cancelCmd() *cobra.Command {
	return &cobra.Command{
		Use: "cancel FLOW/RUN", Short: "Ask a run to stop; finished steps keep their records",
		Example: c.examples(
			"cancel FLOW/latest     and wait until it has stopped; resume carries on from there"),
		Args: exactly("a run (Flow/run, or Flow/latest)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			reader, done, err := c.reader(ctx)
			if err != nil {
				return err
			}
			run, err := reader.Find(ctx, args[0])
			done()
			if err != nil {
				return err
			}
			if !run.Ended.IsZero() {
				return inputf("run %s is %s already", run.Pathspec(), run.Status)
			}
			s, err := c.connect(ctx, run.TaskQueue)
			if err != nil {
				return err
			}
			defer s.close()
			if err := s.client.Cancel(ctx, run.Flow, run.Run.Run); err != nil {
				return err
			}
			if c.mustWork(ctx, s, run.TaskQueue) { // nobody else would carry it out
				stop, err := c.startWorker(s, run.TaskQueue, c.stepLog())
				if err != nil {
					return err
				}
				defer stop()
			}
			run, err = s.client.Wait(ctx, run.Flow, run.Run.Run)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.io.Out, "%s is %s\n", run.Pathspec(), run.Status)
			return nil
		},
	}
}

// runURL is the run's page in the Temporal Web UI.
func runURL(webUI, namespace string, run *runs.Run) string {
	if webUI == "" {
		return ""
	}
	return fmt.Sprintf("%s/namespaces/%s/workflows/%s", webUI, url.PathEscape(namespace), url.PathEscape(run.Pathspec()))
}
