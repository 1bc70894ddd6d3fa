package flow

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/stepwell-flows/stepwell/policies"
)

// Command is a program that a step runs, see [Exec].
//
// The program finds its input in files: for each artifact in In one in the directory $STEPWELL_IN. It leaves its output in the same
// form in the directory $STEPWELL_OUT. An artifact of type []byte or string, and a File, is a file with the artifact's name; any
// other is JSON, as encoding/json has it, in a file with the name and ".json". A Ref is like what it refers to.
//
// It also finds in its environment:
//
//	STEPWELL_FLOW, STEPWELL_RUN, STEPWELL_STEP   the names
//	STEPWELL_TASK                                the task's, with the index, like "fit[3]"
//	STEPWELL_ATTEMPT                             the number of the attempt, from 1
//	STEPWELL_IDEMPOTENCY_KEY                     see [IdempotencyKey]
//	TRACEPARENT                                  the attempt's span, if the worker traces, as W3C's Trace Context has it
//
// Exit code 0 is success. Others are a failure whose class ExitCodes tells, or else the convention of sysexits.h: 64 to 66 (wrong
// usage, data or file) Invalid, 69 and 75 (a service is away, try again) Transient, 77 (no permission) Denied. All others are Unknown.
// What the program printed last on its standard error is part of the failure, from the beginning of a traceback if there is one. All
// that it prints is in the attempt's log.
type Command struct {
	// Args are the program and its arguments. The program is looked for as a shell does: a name in PATH, a path from Dir.
	Args []string
	// Env are settings like "NAME=value", in addition to the worker's environment.
	Env []string
	// Dir is the working directory. Defaults to Isolated.Dir, else to that of the worker, or with Files or Isolated to a new
	// one that is removed afterwards.
	Dir string
	// Files are copied to the working directory first: scripts that are embedded in the worker, for example. Dir must be empty.
	Files fs.FS
	// In are the names of the artifacts that the program gets, Out of those that it sets. One of Out that it did not write is an
	// error.
	In, Out []string
	// Stdin is what the program reads from its standard input.
	Stdin []byte
	// ExitCodes are classes of failures by exit code.
	ExitCodes map[int]policies.Class
}

// Exec is a step that runs a program. The function says which, from the state that the step starts with, and must not change it; the
// program's output changes it. The step has options like any other; with [Isolated], its limits hold for the program and all that it
// starts, which ends with the program in any case.
//
// The program gets SIGTERM when its attempt is over, because of a Timeout.Attempt for example, and SIGKILL a second later.
//
// [Flow.Check] calls the function once with a zero state, to find names that are no artifacts. It is no mistake if it panics then.
func Exec[S any](name string, command func(*S) Command, options ...Option) Node[S] {
	n := newStep[S](name, options)
	if command == nil {
		n.errs = append(n.errs, fmt.Errorf("step %q has no function", name))
		return Node[S]{n}
	}
	n.step.Command = func(state any) Command { return command(state.(*S)) }
	return Node[S]{n}
}

// checkCommands finds mistakes in the commands of a zero state.
func (f *Flow) checkCommands() {
	f.root.walk(func(n *node) {
		if n.step == nil || n.step.Command == nil || f.schema == nil {
			return
		}
		c, ok := f.zeroCommand(n.step)
		if !ok {
			return
		}
		if len(c.Args) == 0 || c.Args[0] == "" { // it may depend on the state
			c.Args = []string{"program"}
		}
		named := func(name string) bool { return name == "" }
		c.In, c.Out = slices.DeleteFunc(slices.Clone(c.In), named), slices.DeleteFunc(slices.Clone(c.Out), named)
		f.fail(f.CheckCommand(n.name, c))
	})
}

func (f *Flow) zeroCommand(def *StepDef) (c Command, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return def.Command(f.NewState()), true
}

// CheckCommand reports everything in a step's command that makes no sense, as one joined error.
func (f *Flow) CheckCommand(step string, c Command) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("step %q: command: "+format, append([]any{step}, args...)...))
	}
	if len(c.Args) == 0 || c.Args[0] == "" {
		bad("Args names no program")
	}
	for n, s := range c.Env {
		if err := checkSetting(n, s); err != nil {
			bad("Env: %w", err)
		}
	}
	if c.Dir != "" && c.Files != nil {
		bad("it has a Dir and Files, which need a directory of their own (leave one of them out)")
	}
	for _, part := range []struct {
		what  string
		names []string
	}{{"In", c.In}, {"Out", c.Out}} {
		seen := map[string]bool{}
		for _, name := range part.names {
			field, known := f.schema.Field(name)
			switch {
			case !known:
				bad("%s has %q, which is no artifact of %s (use the name of an artifact, not of its field)", part.what, name, f.state)
			case seen[name]:
				bad("%s has %q twice", part.what, name)
			case field.Param && part.what == "Out":
				bad("Out has parameter %q (parameters are read-only)", name)
			}
			seen[name] = true
		}
	}
	for _, code := range slices.Sorted(maps.Keys(c.ExitCodes)) {
		class := c.ExitCodes[code]
		switch {
		case code < 1 || code > 255:
			bad("ExitCodes has %d (use codes of failures, 1 to 255)", code)
		case !slices.Contains(exitClasses, class):
			bad("ExitCodes gives %d the class %q (use one of %v)", code, class, exitClasses)
		}
	}
	return errors.Join(errs...)
}

// exitClasses are those that a program can know of. That an attempt was lost or cancelled it cannot.
var exitClasses = []policies.Class{
	policies.Transient, policies.RateLimited, policies.TimedOut, policies.Invalid, policies.Denied, policies.Permanent, policies.Bug,
	policies.OutOfMemory, policies.Unknown,
}

// ExitClass is the class of a failure with an exit code.
func (c Command) ExitClass(code int) policies.Class {
	if class, ok := c.ExitCodes[code]; ok {
		return class
	}
	switch code {
	case 64, 65, 66:
		return policies.Invalid
	case 69, 75:
		return policies.Transient
	case 77:
		return policies.Denied
	}
	return policies.Unknown
}
