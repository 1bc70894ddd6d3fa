// Package failures is FailuresFlow: what fails in data work, a row of a table each, and what happens then. The table is
// docs/failures.md.
//
//	go run ./starter run FailuresFlow --kind transient
//	go run ./starter why FailuresFlow/latest
//
// The services that the steps call are a small HTTP server in the process of the worker, so it runs anywhere.
package failures
