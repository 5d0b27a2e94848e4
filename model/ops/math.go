package ops

import "scalecrafter/model/kernels"

// withMath is the kernel with its products in that arithmetic; kernels without
// products, and the gradients, stay as they are.
func withMath(k kernel, m kernels.Math) kernel {
	switch k := k.(type) {
	case conv2D:
		k.C.Math = m
		return k
	case linear:
		k.L.Math = m
		return k
	case attention:
		k.A.Math = m
		return k
	}
	return k
}
