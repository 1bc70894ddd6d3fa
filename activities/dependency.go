package activities

import "github.com/stepwell-flows/stepwell/policies"

// admit asks what guards a step whether an attempt may begin. First says that no attempt of the task has failed yet. Done must be
// called with how the attempt ended, nil for well.
func (a *Activities) admit(spec policies.Spec, flow, run string, first bool) (done func(*policies.Failure), err error) {
	return func(*policies.Failure) {}, nil
}

// allowRetry asks the budgets that a step has a share in whether it may be tried again.
func (a *Activities) allowRetry(spec policies.Spec, flow, run string) error { return nil }
