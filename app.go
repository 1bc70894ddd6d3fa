package stepwell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"go.temporal.io/api/serviceerror"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/isolate"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// App is the program that an author's main calls: starter, worker and, without a Temporal server,
// everything in one process.
//
//	func main() {
//		stepwell.App{Flows: []*flow.Flow{Flow()}, Dev: devserver.Start}.Main()
//	}
type App struct {
	// Flows are what the program can run.
	Flows []*flow.Flow
	// Dev starts a Temporal server for development when no server is configured, usually devserver.Start.
	// Nil: the program needs a server. Leaving it out keeps the server's code out of the program.
	Dev func(context.Context, DevOptions) (*DevServer, error)
	// Classify gives errors of all steps a class, see [WorkerOptions].
	Classify func(error) policies.Class
	// Redact says what else to hide in logs and in the texts of failures, see [WorkerOptions].
	Redact []*regexp.Regexp
}

// IO is what a program reads and writes. Tests give their own.
type IO struct {
	Out, Err io.Writer
	// Env looks up environment variables for flows' parameters and for settings of Stepwell itself.
	Env func(string) (string, bool)
}

// The exit codes of the program.
const (
	ExitOK          = 0   // done; a run that was waited for completed
	ExitFailed      = 1   // the run failed, or something that no other code says went wrong
	ExitInput       = 2   // the input was refused and nothing was started: usage, parameters, names
	ExitCancelled   = 3   // the run was cancelled
	ExitNotFound    = 4   // a run, step, task, artifact or card that does not exist
	ExitUnavailable = 5   // Temporal or the store could not be reached or used
	ExitInterrupted = 130 // interrupted by the user; the run, if any, is not
)

// Main runs the program with the process's arguments and exits.
func (a App) Main() { a.main(os.Args[1:]) }

// Worker runs the program's worker and exits: Main with the verb "worker" put first.
func (a App) Worker() { a.main(append([]string{"worker"}, os.Args[1:]...)) }

// Child does what this process was started for and exits, if it is the process of an isolated step, and returns at once otherwise.
// Main and Worker call it. A program that has no App but calls [NewWorker], or a test's TestMain, calls it first of all, if its
// flows have isolated steps.
func (a App) Child() {
	if conn, ok := isolate.Parent(); ok {
		os.Exit(activities.RunChild(conn, a.Classify, a.Flows...))
	}
}

func (a App) main(args []string) {
	a.Child()
	// A reader that has seen enough must not kill a program that runs steps: writing to it just fails.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	os.Exit(a.Run(ctx, args, IO{Out: os.Stdout, Err: os.Stderr, Env: os.LookupEnv}))
}

// Run runs the program with arguments and returns its exit code. Cancelling ctx stops it like an interrupt does.
func (a App) Run(ctx context.Context, args []string, io IO) int {
	if io.Env == nil {
		io.Env = func(string) (string, bool) { return "", false }
	}
	c := newCommand(a, io)
	root := c.root()
	root.SetArgs(args)
	root.SetOut(c.io.Out)
	root.SetErr(c.io.Err)
	err := root.ExecuteContext(ctx)
	if broken := c.term.failure(); err == nil && broken != nil && !errors.Is(broken, syscall.EPIPE) {
		err = fmt.Errorf("write the output: %w", broken)
	}
	code := exitCode(ctx, err)
	switch {
	case err == nil || errors.Is(err, errQuiet):
	case code == ExitInterrupted:
		fmt.Fprintln(c.io.Err, "interrupted")
	default:
		for line := range strings.SplitSeq(strings.TrimRight(err.Error(), "\n"), "\n") {
			fmt.Fprintln(c.io.Err, c.term.err.style.bad("error:"), clean(line))
		}
	}
	return code
}

// exitError carries an exit code for an end that was told already.
type exitError struct{ code int }

func (e *exitError) Error() string        { return fmt.Sprintf("exit %d", e.code) }
func (e *exitError) Is(target error) bool { return target == errQuiet }

var errQuiet = errors.New("already told")

// exitCode is the exit code of an error. Where several say something, the one that the user can act on first does.
func exitCode(ctx context.Context, err error) int {
	var exit *exitError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, ErrInput), errors.Is(err, runs.ErrPathspec):
		return ExitInput
	case errors.Is(err, runs.ErrNotFound):
		return ExitNotFound
	case ctx.Err() != nil:
		return ExitInterrupted
	case errors.Is(err, errUnusable), unusableStore(err):
		return ExitUnavailable
	}
	return temporalCode(err)
}

// unusableStore says that the store has the blame: it is away, damaged, too new, closed to us or full.
func unusableStore(err error) bool {
	for _, target := range []error{
		artifacts.ErrUnavailable, artifacts.ErrUnusable, artifacts.ErrCorrupt, artifacts.ErrNotFound, records.ErrNewer, fs.ErrPermission,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// temporalCode is the exit code of what Temporal answered.
func temporalCode(err error) int {
	var (
		service serviceerror.ServiceError
		gone    *serviceerror.NotFound
		started *serviceerror.WorkflowExecutionAlreadyStarted
	)
	switch {
	case errors.As(err, &gone):
		return ExitNotFound
	case errors.As(err, &started):
		return ExitInput
	case errors.As(err, &service), errors.Is(err, context.DeadlineExceeded):
		return ExitUnavailable
	default:
		return ExitFailed
	}
}

// errUnusable marks what keeps the program from using Temporal or the store.
var errUnusable = errors.New("cannot be used")

type unusableError struct{ error }

func (e *unusableError) Is(target error) bool { return target == errUnusable }
func (e *unusableError) Unwrap() error        { return e.error }

func checkFlows(flows []*flow.Flow) error {
	if len(flows) == 0 {
		return inputf("the program has no flows (list them in stepwell.App.Flows)")
	}
	var errs []error
	seen := map[string]string{}
	for _, f := range flows {
		errs = append(errs, f.Check())
		lower := strings.ToLower(f.Name())
		if first, dup := seen[lower]; dup {
			errs = append(errs, fmt.Errorf("two flows are named %q and %q (rename one)", first, f.Name()))
		}
		seen[lower] = f.Name()
	}
	if err := errors.Join(errs...); err != nil {
		return &InputError{err}
	}
	return nil
}

// flow finds a flow by its exact name.
func (a App) flow(name string) (*flow.Flow, error) {
	i := slices.IndexFunc(a.Flows, func(f *flow.Flow) bool { return f.Name() == name })
	if i < 0 {
		return nil, inputf("flow %q is not known (this program has %s)", name, strings.Join(a.names(), ", "))
	}
	return a.Flows[i], nil
}

func (a App) names() []string {
	names := make([]string, len(a.Flows))
	for i, f := range a.Flows {
		names[i] = f.Name()
	}
	return names
}
