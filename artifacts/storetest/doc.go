// Package storetest is the conformance suite for places that keep artifacts: everything that package driver's comments promise, and
// what artifacts.Store builds on it. The drivers of this repository run it, S3 against a real server. Run it on a driver of your own:
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) driver.Driver {
//			d, err := mystore.New(…)
//			require.NoError(t, err)
//			return d
//		})
//	}
//
// The tests run in parallel and put about 300 MB into the store; they remove nothing but what they test removing.
package storetest
