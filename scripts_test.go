package stepwell

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the scripts of testdata/script. In them "starter" is the program with the fixture's flows, in a process of its
// own and without a server. It finds the runs of the fixture; $SHAPES is the store of those with shapes.
func TestScripts(t *testing.T) {
	t.Parallel()
	runs, shapes := newStation(t), newShapes(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("STEPWELL_STORE", runs.dir)
			env.Setenv("SHAPES", shapes.dir)
			env.Setenv("DONE", "TrainFlow/"+completedRun)
			env.Setenv("FAILED", "TrainFlow/"+failedRun)
			env.Setenv("TOLERATED", "TrainFlow/"+toleratedRun)
			env.Setenv("BATCHED", "TrainFlow/"+batchedRun)
			return nil
		},
	})
}
