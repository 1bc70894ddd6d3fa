package stepwell

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stepwell-flows/stepwell/flow"
)

// command is one call of the program.
type command struct {
	app App
	io  IO
	set settings
}

const longHelp = `Durable flows for data and ML work, on Temporal.

Without a configured Temporal server, the program runs one itself, with its Web UI, and
keeps everything in the state directory. It uses the server that --address, TEMPORAL_ADDRESS
or a profile of Temporal's own configuration file names, if there is one.

Exit codes: 0 done, 1 the run failed, 2 the input was refused and nothing was started,
3 the run was cancelled, 4 not found, 5 Temporal or the store cannot be used, 130 interrupted.`

func (c *command) root() *cobra.Command {
	name := "stepwell"
	if len(os.Args) > 0 {
		name = strings.TrimSuffix(filepath.Base(os.Args[0]), ".test")
	}
	root := &cobra.Command{
		Use: name, Short: "Run durable flows", Long: longHelp,
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
	f.StringVar(&c.set.stateDir, "state-dir", ".stepwell", "where the embedded server and the default store keep their state")
	f.StringVar(&c.set.logLevel, "log-level", "warn", "what the server's and the worker's libraries log: debug, info, warn or error")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		var level slog.Level
		if err := level.UnmarshalText([]byte(c.set.logLevel)); err != nil {
			return inputf("--log-level %q is not a level (use debug, info, warn or error)", c.set.logLevel)
		}
		return nil
	}
	root.AddCommand(
		c.runCmd(), c.resumeCmd(), c.attachCmd(), c.cancelCmd(),
		c.listCmd(), c.showCmd(), c.whyCmd(), c.logsCmd(), c.dumpCmd(), c.cardCmd(),
		c.checkCmd(), c.graphCmd(), c.devCmd(), c.workerCmd(),
	)
	return root
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

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
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

// splitRun reads "Flow/run" or, where a flow is enough, "Flow".
func splitRun(spec string) (flowName, run string, err error) {
	parts := strings.Split(spec, "/")
	if len(parts) != 2 || slices.Contains(parts, "") {
		return "", "", inputf("%q does not name a run (write Flow/run, or Flow/latest)", spec)
	}
	return parts[0], parts[1], nil
}

// splitTask reads "Flow/run/task".
func splitTask(spec string) (run, task string, err error) {
	i := strings.LastIndex(spec, "/")
	if strings.Count(spec, "/") != 2 || i == len(spec)-1 {
		return "", "", inputf("%q does not name a task (write Flow/run/step, or Flow/latest/step)", spec)
	}
	return spec[:i], spec[i+1:], nil
}
