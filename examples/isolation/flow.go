// Package isolation is IsolationFlow: a step that may need more memory than it was given, in a process of its own, and a program in
// another language as a step.
//
//	starter run IsolationFlow
//	starter run IsolationFlow --allocate_mb 300     the first step is killed, and gets more memory
//	starter run IsolationFlow --count 1             the script fails; why shows its traceback
package isolation

import (
	"context"
	"embed"
	"io/fs"
	"math"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// scripts are part of the program, so every worker has them.
//
//go:embed scripts
var scripts embed.FS

// State is what the steps share.
type State struct {
	Count      int `param:"count" default:"200" help:"how many points are made"`
	AllocateMB int `param:"allocate_mb" default:"0" help:"how much memory the first step takes, in MiB"`

	Points []Point `flow:"points"`
	Model  Model   `flow:"model"`
	Report string  `flow:"report"`
	Error  float64 `flow:"error"`
}

// Point is one observation.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// Model is a line.
type Model struct {
	Slope     float64 `json:"slope"`
	Intercept float64 `json:"intercept"`
}

// Flow is IsolationFlow.
func Flow() *flow.Flow {
	return flow.New("IsolationFlow",
		flow.Step("simulate", simulate,
			flow.Isolated{Memory: 256 << 20},
			policies.Escalate{Rungs: []policies.Rung{{}, {Memory: 1 << 30}}},
			policies.Timeout{Attempt: time.Minute}),
		flow.Exec("fit", fit,
			flow.Isolated{Memory: 512 << 20, CPU: 1},
			policies.Timeout{Attempt: time.Minute}),
		flow.Step("judge", judge),
	)
}

// simulate makes points near the line y = 2x + 1. If it dies, its process dies.
func simulate(ctx context.Context, s *State) error {
	ballast := make([]byte, s.AllocateMB<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1 // memory counts when it is written
	}
	for i := range s.Count {
		x := float64(i) / 10
		s.Points = append(s.Points, Point{X: x, Y: 2*x + 1 + math.Sin(float64(i))/10})
	}
	flow.Log(ctx).Info("simulated", "points", len(s.Points), "ballast_bytes", len(ballast))
	return nil
}

// fit says how the script is called. The names in In and Out are those of artifacts.
func fit(*State) flow.Command {
	files, err := fs.Sub(scripts, "scripts")
	if err != nil {
		panic(err) // the name is a constant
	}
	return flow.Command{
		Args: []string{"python3", "fit.py"}, Files: files,
		In: []string{"points"}, Out: []string{"model", "report"},
	}
}

func judge(_ context.Context, s *State) error {
	for _, p := range s.Points {
		s.Error = max(s.Error, math.Abs(s.Model.Slope*p.X+s.Model.Intercept-p.Y))
	}
	return nil
}
