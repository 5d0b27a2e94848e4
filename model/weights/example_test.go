package weights_test

import (
	"bytes"
	"fmt"

	"scalecrafter/model/weights"
)

func ExampleFile_Expect() {
	var b bytes.Buffer
	err := weights.Encode(&b, []weights.Tensor{
		{Name: "conv_in.weight", Shape: []int{1, 1, 1, 2}, Data: []float32{0.5, -1}},
	}, map[string]string{"version": "critters-1"}, "F16")
	if err != nil {
		fmt.Println(err)
		return
	}
	f, err := weights.Read(b.Bytes(), "unet.safetensors")
	if err != nil {
		fmt.Println(err)
		return
	}
	x, err := f.Expect("conv_in.weight", 1, 1, 1, 2)
	fmt.Println(x.Data, x.DType, f.Metadata["version"], err)
	_, err = f.Expect("conv_in.weight", 1, 1, 3, 3)
	fmt.Println(err)
	_, err = f.Expect("conv_in.wieght", 1, 1, 1, 2)
	fmt.Println(err)
	// Output:
	// [0.5 -1] F16 critters-1 <nil>
	// unet.safetensors: tensor "conv_in.weight" has shape [1 1 1 2], want [1 1 3 3]; load weights that belong to this network's configuration
	// unet.safetensors: tensor "conv_in.wieght" is not in the file; nearest of the 1 tensors it has: "conv_in.weight"
}
