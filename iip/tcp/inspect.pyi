import numpy as np

ROW: np.dtype[np.void]
