// Package artifacts keeps what the steps of a flow produce: content-addressed blobs and small documents in a Store, and the mapping of
// a state struct to them.
package artifacts
