package flow

// Isolated runs a step in a process of its own: a crash, an os.Exit, too much memory or a function that ignores its context ends
// that process, and neither the worker nor its other steps. It is a step's option.
type Isolated struct {
	// Memory is the most that the process and those that it starts may use, in bytes. Zero means no limit.
	Memory int64 `json:"memory,omitempty"`
	// CPU is how many processors it may use. Zero means no limit.
	CPU float64 `json:"cpu,omitempty"`
	// Env are settings like "NAME=value", in addition to the worker's environment.
	Env []string `json:"env,omitempty"`
	// Dir is the working directory. Empty means a new one, which is removed afterwards.
	Dir string `json:"dir,omitempty"`
}

// StepOption makes Isolated an option of a step.
func (Isolated) StepOption() {}
