package flow

import (
	"fmt"
	"math"
	"strings"
)

// Isolated runs a step in a process of its own: a crash, an os.Exit, too much memory or a function that ignores its context ends
// that process, and neither the worker nor its other steps. It is a step's option.
//
// The process is the worker's program once more. The state is loaded there and saved from there; the worker writes the task's record.
// What a step does with variables of the program, it does to those of that process. A step's catch function, and the functions of
// shapes that bind items, are those of the worker's program, too; the catch function runs in the worker.
//
// For a step made with [Exec], the limits are those of its program.
type Isolated struct {
	// Memory is the most that the process and those that it starts may use, in bytes. Zero means no limit. A rung of
	// policies.Escalate that says how much has its way.
	Memory int64 `json:"memory,omitempty"`
	// CPU is how many processors it may use, rounded up to whole ones. Zero means no limit.
	CPU float64 `json:"cpu,omitempty"`
	// Env are settings like "NAME=value", in addition to the worker's environment. They may be secrets, so they are in no plan and
	// no record: each worker goes by its own program.
	Env []string `json:"-"`
	// Dir is the working directory. Empty means a new one, which is removed afterwards.
	Dir string `json:"dir,omitempty"`
}

// StepOption makes Isolated an option of a step.
func (Isolated) StepOption() {}

// minMemory is less than any program needs: a number without its unit.
const minMemory = 1 << 20

func (i Isolated) check(step string) []error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("step %q: isolated: "+format, append([]any{step}, args...)...))
	}
	switch {
	case i.Memory < 0:
		bad("Memory is %d (use bytes, 1<<30 for a gibibyte)", i.Memory)
	case i.Memory > 0 && i.Memory < minMemory:
		bad("Memory is %d bytes (use 1<<30 for a gibibyte)", i.Memory)
	}
	if i.CPU < 0 || math.IsNaN(i.CPU) || math.IsInf(i.CPU, 0) {
		bad("CPU is %v (use the number of processors, or leave it out)", i.CPU)
	}
	for n, s := range i.Env {
		if err := checkSetting(n, s); err != nil {
			bad("Env: %w", err)
		}
	}
	return errs
}

// checkSetting refuses what is no setting of an environment, or belongs to Stepwell. What may be a value is not told.
func checkSetting(n int, s string) error {
	name, _, ok := strings.Cut(s, "=")
	switch {
	case !ok, name == "":
		return fmt.Errorf("setting %d has no name (write \"NAME=value\")", n+1)
	case strings.ContainsRune(s, 0):
		return fmt.Errorf("setting %q has a zero byte", name)
	case strings.HasPrefix(name, "STEPWELL_"):
		return fmt.Errorf("setting %q cannot be given (names that begin with STEPWELL_ are Stepwell's own)", name)
	}
	return nil
}
