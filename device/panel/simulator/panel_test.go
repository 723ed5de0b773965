package simulator_test

import (
	"testing"

	"vindu/device/panel/paneltest"
	"vindu/device/panel/simulator"
)

func TestContract(t *testing.T) {
	paneltest.Contract(t, func(*testing.T) simulator.Logic { return new(simulator.Panel) })
}
