//go:build ignore

// This file must not compile: each line with a want comment is a mistake that the compiler refuses.
package refused

import (
	"context"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

type stateA struct{ N int }

type stateB struct{ N int }

func stepA(context.Context, *stateA) error { return nil }
func stepB(context.Context, *stateB) error { return nil }

var (
	_ = flow.New("F", flow.Step("a", stepA), flow.Step("b", stepB))                           // want does not match
	_ = flow.New("F", flow.Seq(flow.Step("a", stepA)), flow.Seq(flow.Step("b", stepB)))       // want does not match
	_ = flow.Seq(flow.Step("a", stepA), flow.Step("b", stepB))                                // want does not match
	_ = flow.New("F", flow.Step("a", stepA), stepB)                                           // want does not match
	_ = flow.New[stateA]("F", flow.Step("b", stepB))                                          // want cannot use
	_ = flow.Step("a", func(context.Context, stateA) error { return nil })                    // want does not match
	_ = flow.Step("a", func(*stateA) error { return nil })                                    // want does not match
	_ = flow.Step("a", func(context.Context, *stateA) {})                                     // want does not match
	_ = flow.Step("a", stepA, time.Minute)                                                    // want cannot use
	_ = flow.Step("a", stepA, "retry")                                                        // want cannot use
	_ = policies.Catch(func(context.Context, *stateA) error { return nil })                   // want does not match
	_ = policies.Catch(func(context.Context, stateA, *policies.Failure) error { return nil }) // want does not match
	_ = policies.Retry{MaximumAttempts: 1.5}                                                  // want truncated
	_ = policies.Timeout{Attempt: "1m"}                                                       // want cannot use
)
