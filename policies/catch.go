package policies

import (
	"context"
	"fmt"
	"reflect"
)

// CatchPolicy is what stands in for a step that failed for good. Make one with [Catch]; the zero
// value is a mistake that the flow's Check reports. It is immutable and safe for concurrent use.
type CatchPolicy struct {
	state reflect.Type
	call  func(ctx context.Context, state any, f *Failure) error
}

// Catch makes a step's failure harmless: when the step's attempts are spent, fn runs on the state
// as it was before the step, whatever ended it (an error, a panic, a timeout, lost workers), and
// when fn returns nil the run goes on with what fn set. Nothing of the failed attempts is left.
//
// A fn that returns an error fails the task with that error. A cancelled run is not caught.
func Catch[S any](fn func(context.Context, *S, *Failure) error) CatchPolicy {
	p := CatchPolicy{state: reflect.TypeFor[S]()}
	if fn != nil {
		p.call = func(ctx context.Context, state any, f *Failure) error {
			s, ok := state.(*S)
			if !ok {
				return fmt.Errorf("catch got a %T, not a *%s (give the step the flow's own state type)", state, reflect.TypeFor[S]())
			}
			return fn(ctx, s, f)
		}
	}
	return p
}

// StepOption makes CatchPolicy an option of a step.
func (CatchPolicy) StepOption() {}

// StateType is the type S of the state that the function takes as *S.
func (c CatchPolicy) StateType() reflect.Type { return c.state }

// Call runs the function. State must be a *S. A panic in the function is not recovered.
func (c CatchPolicy) Call(ctx context.Context, state any, f *Failure) error {
	if c.call == nil {
		return errNoCatch
	}
	return c.call(ctx, state, f)
}
