package stepwell

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/runs"
)

// command is one call of the program.
type command struct {
	app  App
	io   IO // its writers are those of term
	term *terminal
	set  settings
	name string
	// lines are what the steps of this process log while a run is followed.
	lines lineQueue
	// ending is set when the program ends.
	ending atomic.Bool
	// observing is set when a verb connects.
	observing observing
}

func newCommand(a App, io IO) *command {
	c := &command{app: a, io: io, name: "stepwell", term: newTerminal(io.Out, io.Err, io.Env), set: settings{logFormat: logText}}
	c.io.Out, c.io.Err = &c.term.out, &c.term.err
	if len(os.Args) > 0 {
		c.name = strings.TrimSuffix(filepath.Base(os.Args[0]), ".test")
	}
	return c
}

const longHelp = `Durable flows for data and ML work, on Temporal.

Without a configured Temporal server, the program runs one itself, with its Web UI, and
keeps everything in the state directory. It uses the server that --address, TEMPORAL_ADDRESS
or a profile of Temporal's own configuration file names, if there is one.

Exit codes: 0 done, 1 the run failed, 2 the input was refused and nothing was started,
3 the run was cancelled, 4 not found, 5 Temporal or the store cannot be used, 130 interrupted.`

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use: c.name, Short: "Run durable flows", Long: longHelp, Version: version(),
		SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return inputf("%q is not a command of %s (see %s --help)", args[0], cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return inputf("%w (see %s --help)", err, cmd.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVar(&c.set.store, "store", "", "where artifacts are: a directory or s3://bucket/prefix (default STEPWELL_STORE, else <state-dir>/store)")
	f.StringVar(&c.set.address, "address", "", "host:port of the Temporal server (default TEMPORAL_ADDRESS or Temporal's configuration file, else the embedded one)")
	f.StringVar(&c.set.namespace, "namespace", "", "Temporal namespace (default TEMPORAL_NAMESPACE, else default)")
	f.StringVar(&c.set.profile, "profile", "", "profile of Temporal's configuration file (default TEMPORAL_PROFILE, else default)")
	f.StringVar(&c.set.stateDir, "state-dir", defaultStateDir, "where the embedded server and the default store keep their state")
	f.StringVar(&c.set.logLevel, "log-level", "", "what Temporal's libraries log: debug, info, warn or error (default warn, without what the progress of a run shows already)")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		var level slog.Level
		if err := level.UnmarshalText([]byte(c.set.logLevel)); c.set.logLevel != "" && err != nil {
			return inputf("--log-level %q is not a level (use debug, info, warn or error)", c.set.logLevel)
		}
		return nil
	}
	root.AddCommand(
		c.runCmd(), c.resumeCmd(), c.attachCmd(), c.cancelCmd(),
		c.retryCmd(), c.skipCmd(), c.failCmd(),
		c.listCmd(), c.showCmd(), c.whyCmd(), c.diffCmd(), c.logsCmd(), c.dumpCmd(), c.cardCmd(), c.tagCmd(), c.breakersCmd(),
		c.spinCmd(), c.reproCmd(), c.checkCmd(), c.graphCmd(), c.policyCmd(), c.uiCmd(), c.devCmd(), c.workerCmd(), c.setupCmd(),
	)
	return root
}

// examples are the calls that a help text shows, with the program's name before each.
func (c *command) examples(calls ...string) string {
	return "  " + c.name + " " + strings.Join(calls, "\n  "+c.name+" ")
}

// exactly takes as many arguments as usage has words.
func exactly(usage ...string) cobra.PositionalArgs {
	return between(len(usage), usage...)
}

// between takes at least least arguments and at most as many as usage has words.
func between(least int, usage ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return inputf("%s needs %s (see %s --help)", cmd.CommandPath(), usage[len(args)], cmd.CommandPath())
		case len(args) > len(usage):
			return inputf("%s does not know what to do with %q (see %s --help)", cmd.CommandPath(), args[len(usage)], cmd.CommandPath())
		}
		return nil
	}
}

// withJSON adds the flag of every reading verb.
func (c *command) withJSON(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.set.json, "json", false, "print JSON")
	return cmd
}

func (c *command) printJSON(v any) error { return writeJSON(c.io.Out, v) }

// writeJSON prints a document. Characters that could do something to a terminal are escaped, also those that JSON
// allows as they are.
func writeJSON(w io.Writer, v any) error {
	b, err := marshalJSON(v, "  ")
	if err != nil {
		return err
	}
	_, _ = w.Write(b) // the stream remembers what went wrong
	return nil
}

// marshalJSON ends the document with a line feed. Without an indent, that is its only one.
func marshalJSON(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	if !bytes.ContainsFunc(b.Bytes(), func(r rune) bool { return r >= 0x7f && hidden(r) }) {
		return b.Bytes(), nil
	}
	var out bytes.Buffer // such a character can only be in a string
	for _, r := range b.String() {
		if r >= 0x7f && hidden(r) {
			fmt.Fprintf(&out, "\\u%04x", r)
		} else {
			out.WriteRune(r)
		}
	}
	return out.Bytes(), nil
}

// paramFlags makes a real flag of each parameter; what was given is collected as text. Flags may be
// written with - or _, as the parameter is.
func paramFlags(fs *pflag.FlagSet, f *flow.Flow) map[string]string {
	given := map[string]string{}
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	for _, p := range f.Params() {
		v := &paramValue{param: p, given: given}
		flag := fs.VarPF(v, p.Name, "", p.Help)
		switch {
		case p.Required:
			flag.Usage += " (required)"
		case p.Default != nil:
			flag.DefValue = *p.Default
		}
		flag.Usage += fmt.Sprintf(" [%s]", p.Env())
		if p.Kind == flow.ParamBool {
			flag.NoOptDefVal = "true"
		}
	}
	return given
}

// paramValue is a parameter as a flag.
type paramValue struct {
	param flow.Param
	given map[string]string
}

func (v *paramValue) String() string { return "" }
func (v *paramValue) Type() string   { return string(v.param.Kind) }

// Set keeps the text; it is parsed with all others, so that all mistakes are told at once.
func (v *paramValue) Set(text string) error {
	v.given[v.param.Name] = text
	return nil
}

// keyValues reads "k=v" words.
func keyValues(words []string) (map[string]string, error) {
	out := map[string]string{}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return nil, inputf("--param %q is not name=value", w)
		}
		out[k] = v
	}
	return out, nil
}

// runSpec reads a pathspec that names a run, "Flow/run" or "Flow/latest".
func runSpec(spec string) (runs.Pathspec, error) {
	p, err := runs.ParsePathspec(spec)
	if err == nil && (p.Run == "" || p.Task != "") {
		err = inputf("%q does not name a run (write Flow/run, or Flow/%s)", spec, runs.LatestRun)
	}
	return p, err
}

// runOrTaskSpec reads a pathspec that names a run or a task.
func runOrTaskSpec(spec string) (runs.Pathspec, error) {
	p, err := runs.ParsePathspec(spec)
	if err == nil && p.Run == "" {
		err = inputf("%q does not name a run (write Flow/run or Flow/run/step; the run may be %q)", spec, runs.LatestRun)
	}
	return p, err
}

// checkTaskSpec refuses a pathspec that does not name a task.
func checkTaskSpec(spec string) error {
	p, err := runs.ParsePathspec(spec)
	if err == nil && p.Task == "" {
		err = inputf("%q does not name a task (write Flow/run/step, or Flow/%s/step)", spec, runs.LatestRun)
	}
	return err
}

// hint is a command for the user to type, with the flags that this one was given to find the same store and server.
func (c *command) hint(words ...string) string {
	all := []string{c.name}
	for _, f := range []struct{ name, value, usual string }{
		{"--store", c.set.store, ""},
		{"--state-dir", c.set.stateDir, defaultStateDir},
		{"--address", c.set.address, ""},
		{"--namespace", c.set.namespace, ""},
		{"--profile", c.set.profile, ""},
	} {
		if f.value != f.usual {
			all = append(all, f.name, f.value)
		}
	}
	all = append(all, words...)
	for i, w := range all {
		all[i] = quoteWord(clean(w))
	}
	return strings.Join(all, " ")
}

// quoteWord quotes a word for a shell when it has to be.
func quoteWord(w string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:=,@%+", r)
	}
	if w != "" && !strings.ContainsFunc(w, func(r rune) bool { return !safe(r) }) {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}

// version names this build: the program's module version and revision, and the Go that built it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	if code := codeVersion(); code != "" {
		v += " " + code
	}
	return v + " " + info.GoVersion
}
