// Package flowtest runs whole flows in Temporal's test environment, for tests of flows.
//
// Time is skipped: a policy that waits two minutes between attempts is tested in milliseconds, and what the test reads
// back shows the two minutes. The steps, policies, catches, records and cards are the real ones, over a store in memory;
// what comes back is the same [runs.Run] that production code reads.
//
//	func TestRetries(t *testing.T) {
//		run := flowtest.Run(t, Flow(), flowtest.Options{Params: map[string]string{"simulate_code_bug": "true"}})
//		require.Equal(t, records.StatusCompleted, run.Status)
//		task, err := run.Task(t.Context(), "api_call")
//		require.NoError(t, err)
//		attempts, err := task.Attempts(t.Context())
//		require.NoError(t, err)
//		require.Equal(t, 2*time.Minute, attempts[1].Waited)
//	}
//
// [Fake] is a service that steps call over HTTP: it answers as a script says, and tells when it was asked.
//
// [EveryCrash] runs a flow again and again, kills its worker each time at another place, and fails if the run does not come to
// the same end.
//
// # What it cannot show
//
// There is no server: no heartbeats, no limits on sizes. Timeout.Attempt is kept in real time, because
// the author's function takes real time. A step's own waiting is not skipped either. Test those on an embedded server
// (package devserver).
package flowtest
