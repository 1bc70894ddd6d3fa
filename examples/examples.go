// Package examples lists the example flows, which this repository's worker and starter run.
package examples

import (
	"github.com/stepwell-flows/stepwell/examples/failurehandling"
	failuretable "github.com/stepwell-flows/stepwell/examples/failures"
	"github.com/stepwell-flows/stepwell/examples/flightdelay"
	"github.com/stepwell-flows/stepwell/examples/gallery"
	"github.com/stepwell-flows/stepwell/examples/geocode"
	"github.com/stepwell-flows/stepwell/examples/gridsearch"
	"github.com/stepwell-flows/stepwell/examples/isolation"
	"github.com/stepwell-flows/stepwell/examples/predictions"
	"github.com/stepwell-flows/stepwell/flow"
)

// Flows returns all example flows.
func Flows() []*flow.Flow {
	return []*flow.Flow{
		failurehandling.Flow(), failuretable.Flow(), flightdelay.Flow(), gridsearch.Flow(), geocode.Flow(), predictions.Flow(),
		isolation.Flow(), gallery.Flow(),
	}
}
