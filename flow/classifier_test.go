package flow_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

func TestClassifierOption(t *testing.T) {
	t.Parallel()
	type state struct{ N int }
	step := func(context.Context, *state) error { return nil }
	deny := policies.Classifier(func(error) policies.Class { return policies.Denied })

	f := flow.New("F", flow.Step("a", step, deny), flow.Step("b", step))
	require.NoError(t, f.Check())
	require.Equal(t, policies.Denied, f.StepDef("a").Classify(errors.New("boom")))
	require.Nil(t, f.StepDef("b").Classify)

	require.EqualError(t, flow.New("F", flow.Step("a", step, deny, deny)).Check(),
		`flow "F": step "a" has two classifier policies (keep one)`)
	require.EqualError(t, flow.New("F", flow.Step("a", step, policies.Classifier(nil)), flow.Step("b", step, policies.ClassifierPolicy{})).Check(),
		"flow \"F\": step \"a\": classifier has no function (give policies.Classifier one)\n"+
			"flow \"F\": step \"b\": classifier has no function (give policies.Classifier one)")
}
