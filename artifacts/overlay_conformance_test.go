package artifacts_test

import (
	"testing"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/storetest"
)

func TestOverlayConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) driver.Driver { return artifacts.NewOverlayDriver() })
}
