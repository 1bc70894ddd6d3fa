// Package failurehandling is FailureHandlingFlow: what happens when a service is down and when the code has a bug, and how
// a run finishes all the same.
//
//	start → api_call → risky_logic → summarize → end
//
// The step api_call asks a weather service that, by default, fails seven times out of ten. It is tried up to four times
// with growing, random waits; if the service is still down then, the catch takes yesterday's data. With the parameter
// simulate_code_bug the step risky_logic panics; its catch notes the failure and the run goes on without the result.
package failurehandling
