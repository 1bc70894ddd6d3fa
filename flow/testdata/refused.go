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

func joinA(context.Context, *stateA, flow.Inputs[stateA]) error { return nil }
func joinB(context.Context, *stateB, flow.Inputs[stateB]) error { return nil }

func (*stateA) numbers() []int  { return nil }
func (*stateA) set(int)         {}
func (*stateA) setText(string)  {}
func (*stateA) word() string    { return "" }
func (*stateA) more() bool      { return false }
func (*stateA) list() []float64 { return nil }

var a, b = flow.Step("a", stepA), flow.Step("b", stepB)

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

// Shapes.
var (
	_ = flow.New("F", a, flow.Branch("x", a, a))                                                       // want does not match
	_ = flow.New[stateA]("F", flow.Branch("x", a, a))                                                  // want cannot use
	_ = flow.New("F", a, flow.Foreach("x", (*stateA).numbers, (*stateA).set, a))                       // want does not match
	_ = flow.New[stateA]("F", flow.Foreach("x", (*stateA).numbers, (*stateA).set, a))                  // want cannot use
	_ = flow.New[stateA]("F", flow.Foreach("x", (*stateA).numbers, (*stateA).set, a).With(flow.Fan{})) // want cannot use
	_ = flow.New[stateA]("F", flow.Switch("x", (*stateA).word, flow.Case("x", a)))                     // want cannot use
	_ = flow.Branch("x", a, a).Join("j", stepA)                                                        // want cannot use
	_ = flow.Branch("x", a, a).Join("j", joinB)                                                        // want cannot use
	_ = flow.Branch("x", a, a).Join("j")                                                               // want not enough arguments
	_ = flow.Branch("x", a, a).With(flow.Fan{})                                                        // want With undefined
	_ = flow.Branch("x", a, b)                                                                         // want does not match
	_ = flow.Foreach("x", (*stateA).numbers, (*stateA).set, b)                                         // want does not match
	_ = flow.Foreach("x", (*stateA).numbers, (*stateA).setText, a)                                     // want does not match
	_ = flow.Foreach("x", (*stateA).list, (*stateA).set, a)                                            // want does not match
	_ = flow.Foreach("x", (*stateA).word, (*stateA).setText, a)                                        // want does not match
	_ = flow.Foreach("x", (*stateA).numbers, (*stateA).set, a).Join("j", joinB)                        // want cannot use
	_ = flow.Foreach("x", (*stateA).numbers, (*stateA).set, a).With(flow.Fan{Tolerate: 5})             // want cannot use
	_ = flow.Foreach("x", (*stateA).numbers, (*stateA).set, a).With(flow.Percent(5))                   // want cannot use
	_ = flow.ForeachStream("x", (*stateA).numbers, (*stateA).set, a)                                   // want does not match
	_ = flow.Switch("x", (*stateA).word, flow.Case(1, a))                                              // want does not match
	_ = flow.Switch("x", (*stateA).word, flow.Case("x", b))                                            // want does not match
	_ = flow.Switch("x", (*stateA).word, a)                                                            // want does not match
	_ = flow.Switch("x", (*stateA).numbers, flow.Case("x", a))                                         // want does not match
	_ = flow.Switch("x", (*stateA).word, flow.Case("x", a)).Else(b)                                    // want cannot use
	_ = flow.Switch("x", (*stateA).word, flow.Case("x", a)).Join("j", joinA)                           // want Join undefined
	_ = flow.Loop("x", (*stateA).word, a)                                                              // want does not match
	_ = flow.Loop("x", (*stateA).more, b)                                                              // want does not match
	_ = flow.Loop("x", (*stateA).more, a).Join("j", joinA)                                             // want Join undefined
	_ = flow.NewInputs(&stateA{}, &stateB{})                                                           // want does not match
	_ = flow.NewInputs(&stateA{}).Merge(&stateB{})                                                     // want cannot use
	_ = flow.NewInputs(&stateA{}).Merge(&stateA{}, "N")                                                // want cannot use
)
