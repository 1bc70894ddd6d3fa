package flightdelay

import (
	"testing"

	"github.com/stepwell-flows/stepwell/flowtest"
)

// A worker that is killed, wherever it is, changes nothing about the model: not one bit.
func TestEveryCrash(t *testing.T) {
	t.Parallel()
	flowtest.EveryCrash(t, Flow(), map[string]string{"data": file(t, flightsCSV(500))})
}

// The same over all the flights, at some of the places.
func TestSomeCrashesOfTheWholeRun(t *testing.T) {
	t.Parallel()
	flowtest.EveryCrash(t, Flow(), nil, flowtest.CrashOptions{Sample: 3})
}
