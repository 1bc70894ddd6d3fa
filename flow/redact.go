package flow

import "context"

// Redact keeps a secret out of the log of the running attempt and out of what its failure says: from now on "[redacted]" stands in
// its place, in the store and on the worker's terminal. Call it before the secret is used. A value shorter than 4 bytes is not looked
// for. The items of a batch share what is hidden. Artifacts, parameters and cards keep what they are given. Outside of a run it does
// nothing. It may be called by many goroutines.
func Redact(ctx context.Context, secret string) {
	if r := from(ctx).Redact; r != nil {
		r(secret)
	}
}
