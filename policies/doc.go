// Package policies says what happens when a step fails: how often and when it is tried again,
// how long it may take, and what stands in for it in the end.
//
// Policies are plain values, given to a step after its function:
//
//	flow.Step("call_api", callAPI,
//		policies.Retry{MaximumAttempts: 4, InitialInterval: 2 * time.Second},
//		policies.Timeout{Attempt: time.Minute},
//		policies.Catch(func(ctx context.Context, s *State, f *policies.Failure) error {
//			s.Error = f
//			return nil
//		}),
//	)
//
// # Two budgets
//
// A code failure (an error, a panic, an attempt that took longer than [Timeout].Attempt) counts
// against [Retry].MaximumAttempts. A lost attempt (the worker was killed or its machine went away)
// says nothing about the code, so it counts against [Retry].Lost instead, and the attempt that
// follows does not wait for the author's interval.
//
// # Classes
//
// [Classify] gives every error a [Class]. Permanent, Invalid, Denied and Cancelled failures are
// never tried again; the others are, as long as attempts are left. Authors mark errors with
// flow.Fail, flow.Transient and flow.RetryAfter, or with [WithClass] and [WithRetryAfter]; marks
// are found through any wrapping that has Unwrap. Errors of HTTP (see [CheckResponse]), gRPC, AWS,
// databases, TLS, DNS, connections and the operating system are known by themselves; the table is
// docs/failures.md. A step adds a rule of its own with [Classifier].
//
// # Temporal
//
// Temporal's retry policy has no jitter and one attempt number. So the step activity asks
// [Spec.Decide] after each code failure and hands the delay to the server with the failure, while
// the server's own retry policy only paces the attempts that follow a lost one. What knows
// Temporal is in one file: [Spec.ActivityOptions], [Error] and [FailureOf].
package policies
