// Package activities runs the steps of flows as Temporal activities.
//
// One attempt of a step goes like this: load the record that the task starts from, set the parameters,
// call the author's function while heartbeating, and when it returned nil, encode the state, write what
// changed, and write the task's record, last and at most once. Whatever goes wrong before the record exists
// leaves nothing of the attempt visible but its ledger entry, its log and, when it was the last, a card.
//
// The attempt decides about the next one: Temporal has no jitter and cannot tell the author's failures
// from a dying worker, so the delay is drawn here and sent along, and the two are counted apart from the
// ledger (see package policies).
package activities
