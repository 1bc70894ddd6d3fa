// Package predict calls model servers from steps, and makes model servers safe to call again: a client that never asks for the
// same thing twice under two names, and the middleware that executes each thing once.
//
//	client, err := predict.New(predict.HTTP("http://models:8080/predict", predict.HTTPOptions{}), predict.Options{
//		Dependency: policies.Dependency{Name: "models", Budget: policies.Budget{Percent: 20}},
//		Timeout:    2 * time.Second,
//	})
//	…
//	answer, err := predict.Call[Flight, Answer](ctx, client, flight.ID, flight)
//
// # Keys
//
// Every attempt of a call carries the same idempotency key: of the flow, the run that a chain of resumes began with, the task, and
// the operation's own name in the task. A worker that is killed, a step that is tried again and a run that is resumed repeat it.
// [Middleware] and [Interceptor] are the other half: they keep the response of each key in an artifact store and answer from there.
//
// # What a call does about failures
//
// Each attempt has a deadline. Its error gets a class, and with it the answer to whether another attempt makes sense; the wait is
// drawn with full jitter, or is the one that the server asked for, and then never shorter. Waits over a minute, and an open
// breaker, park the whole task in its workflow. A key that an earlier request holds, of a worker that has crashed for example, is
// waited for, and that is no attempt. What an attempt that was cut short did not get says nothing about the service. Budgets bound how many retries all calls to a service make together.
//
// Attempts multiply: three attempts of a call in a step of four attempts are twelve requests. Give the step few, or let the
// client's budget bound them.
//
// # Many items
//
// [Batch] calls for many items in one step: several in one request if the server has a [BatchHandler], each tried again on its
// own, equal ones sent once, with the results so far kept for the next attempt. A request that fails as a whole is sent again as
// smaller ones, since one of its items may be the reason. [Report] tells how it went.
package predict
